# Two images from one file:  docker build --target gateway .   and   docker build --target worker .
# No BuildKit feature is used, so the classic builder, buildah and kaniko build it too. See docs/images.md.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Behind a mirror put all wheels into wheels/ and build with
#   --build-arg PIP_FLAGS="--no-index --find-links=/src/wheels" --build-arg TORCH_FLAGS=""
WORKDIR /src
# pip lives in a virtual environment of its own and installs into another one that has none.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/modelpress
COPY wheels /src/wheels
COPY pyproject.toml constraints.txt /src/
# The dependencies are a layer of their own that a change of the code leaves as it is. The list of components is made of
# what is installed, by a tool that stays behind with pip.
ARG PIP_FLAGS=""
RUN touch README.md LICENSE \
    && /opt/pip/bin/pip install ${PIP_FLAGS} -c constraints.txt cyclonedx-bom

FROM build AS build-gateway
ARG PIP_FLAGS=""
RUN /opt/pip/bin/pip --python /opt/modelpress/bin/python install ${PIP_FLAGS} -c constraints.txt ".[gateway]"
COPY . /src
RUN /opt/pip/bin/pip --python /opt/modelpress/bin/python install ${PIP_FLAGS} --no-deps --force-reinstall . \
    && /opt/pip/bin/cyclonedx-py environment --output-reproducible --of JSON \
        --output-file /opt/modelpress/sbom.cdx.json /opt/modelpress/bin/python

FROM build AS build-worker
ARG PIP_FLAGS=""
# Where torch comes from: "--index-url <PyTorch's index>" of the CPU build, or of your CUDA version.
ARG TORCH_FLAGS=""
RUN /opt/pip/bin/pip --python /opt/modelpress/bin/python install ${PIP_FLAGS} ${TORCH_FLAGS} torch==2.13.0 \
    && /opt/pip/bin/pip --python /opt/modelpress/bin/python install ${PIP_FLAGS} -c constraints.txt ".[worker]"
COPY . /src
RUN /opt/pip/bin/pip --python /opt/modelpress/bin/python install ${PIP_FLAGS} --no-deps --force-reinstall . \
    && /opt/pip/bin/cyclonedx-py environment --output-reproducible --of JSON \
        --output-file /opt/modelpress/sbom.cdx.json /opt/modelpress/bin/python

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="modelpress" \
      org.opencontainers.image.description="Compresses neural networks into small, fast ONNX files and proves it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      dev.modelpress.sbom="/opt/modelpress/sbom.cdx.json" \
      org.opencontainers.image.revision="${REVISION}"
# The base image's own pip and setuptools are not needed to run anything.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/ensurepip /usr/local/lib/python3.11/site-packages/* \
        /usr/share/python-wheels /usr/lib/python3.11/ensurepip /usr/lib/python3/dist-packages/pip* \
    && echo "modelpress:x:10001:10001::/var/lib/modelpress:/usr/sbin/nologin" >> /etc/passwd \
    && echo "modelpress:x:10001:" >> /etc/group \
    && mkdir -p /var/lib/modelpress/scratch /var/lib/modelpress/blobs \
    && chown -R 10001:10001 /var/lib/modelpress
ENV PATH=/opt/modelpress/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/modelpress \
    MODELPRESS_DATA_DIR=/var/lib/modelpress
WORKDIR /var/lib/modelpress
USER 10001:10001

FROM runtime AS gateway
COPY --from=build-gateway /opt/modelpress /opt/modelpress
ENV MODELPRESS_HOST=0.0.0.0 MODELPRESS_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MODELPRESS_PORT'] + '/healthz', timeout=2)"]
CMD ["python3", "-m", "app.main"]

FROM runtime AS worker
COPY --from=build-worker /opt/modelpress /opt/modelpress
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import sys; sys.exit(open('/proc/1/stat').read().rpartition(')')[2].split()[0] in 'TtZX')"]
CMD ["python3", "-m", "workers.main", "--queues", "cpu", "--concurrency", "1"]
