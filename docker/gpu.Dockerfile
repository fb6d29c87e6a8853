# NVIDIA GPUs of x86-64 machines, driver 580 or newer (CUDA 13), without torch:
#   docker build -f docker/gpu.Dockerfile -t samrefine:gpu .
FROM ubuntu:24.04 AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /opt/samrefine
RUN /opt/samrefine/bin/pip install --no-cache-dir \
    -c /src/docker/constraints.txt "/src[gpu,tensorrt]"

# onnxruntime-gpu brings neither CUDA nor cuDNN; both are in this base
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home samrefine && install -d -o samrefine -g samrefine /data
COPY --from=build /opt/samrefine /opt/samrefine
COPY docker/healthcheck.py /opt/samrefine/
ENV PATH=/opt/samrefine/bin:$PATH
# From version 1.29 on, onnxruntime tells its maker which graphs it runs
ENV ORT_DISABLE_TELEMETRY=1
# A number: Kubernetes only then sees that it is not root
USER 10001
WORKDIR /data
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["python3", "/opt/samrefine/healthcheck.py", "cuda", "tensorrt"]
ENTRYPOINT ["samrefine"]
