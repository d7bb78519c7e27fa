# docker build -t pipe . && docker run -p 2222:2222 -v pipe-data:/data pipe
# docs/operations.md says more.

# The version that the tests run on.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# `mesh` brings what several machines as one service need.
ARG LOCK=base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/pipe
# The dependencies first: this layer changes only with the lock.
COPY requirements/base.lock requirements/mesh.lock requirements/
RUN /opt/pipe/bin/pip install --require-hashes -r requirements/${LOCK:-base}.lock
COPY LICENSE README.md hatch_build.py pyproject.toml ./
COPY web web
COPY pipe pipe
RUN /opt/pipe/bin/pip install --no-deps . \
    && /opt/pipe/bin/pip check \
    && /opt/pipe/bin/pip uninstall --yes pip setuptools
RUN mkdir -m 0700 /data

FROM python:${PYTHON}
# A user of its own that owns nothing but the data. It needs no entry in /etc/passwd.
COPY --from=build /opt/pipe /opt/pipe
COPY --from=build --chown=10001:10001 /data /data
# HTTP is off until somebody says who does its TLS.
ENV PATH=/opt/pipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIPE_HOST=0.0.0.0 \
    PIPE_PORT=2222 \
    PIPE_METRICS_HOST=0.0.0.0 \
    PIPE_METRICS_PORT=9222 \
    PIPE_WEB_HOST=0.0.0.0 \
    PIPE_WEB_PORT=0 \
    PIPE_DATA_DIR=/data \
    PIPE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 2222 8222 9222
STOPSIGNAL SIGTERM
# Whoever answers with SSH's banner has a turning event loop and an open port.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import os, socket; link = socket.create_connection(('127.0.0.1', int(os.environ['PIPE_PORT'])), 4); assert link.makefile('rb').read(8) == b'SSH-2.0-'"]
# No shell in between: signals reach the server.
ENTRYPOINT ["pipe"]
CMD ["serve"]
