# Jetson Orin with JetPack 6.1 or 6.2 (Python 3.10, CUDA 12.6, TensorRT 10.3), without torch. On the board:
#   docker build -f docker/jetson6.Dockerfile -t samrefine:jetson6 .
FROM ubuntu:22.04 AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
# TensorRT's Python package is the base image's, outside of the environment
RUN python3 -m venv --system-site-packages /opt/samrefine
# onnxruntime has no GPU wheel for ARM64: it is what runs where no TensorRT engine is built yet
RUN /opt/samrefine/bin/pip install --no-cache-dir \
    -c /src/docker/constraints.txt "/src[cpu]"

FROM nvcr.io/nvidia/l4t-tensorrt:r10.3.0-runtime
RUN useradd --uid 10001 --create-home samrefine && install -d -o samrefine -g samrefine /data
COPY --from=build /opt/samrefine /opt/samrefine
COPY docker/healthcheck.py /opt/samrefine/
ENV PATH=/opt/samrefine/bin:$PATH
# From version 1.29 on, onnxruntime tells its maker which graphs it runs
ENV ORT_DISABLE_TELEMETRY=1
# Found, not imported: libnvdla_compiler.so is the board's, and only there when a container runs
RUN python3 -c "import importlib.util as util; assert util.find_spec('tensorrt'), 'no tensorrt here'"
# A number: Kubernetes only then sees that it is not root
USER 10001
WORKDIR /data
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["python3", "/opt/samrefine/healthcheck.py", "auto", "tensorrt"]
ENTRYPOINT ["samrefine"]
