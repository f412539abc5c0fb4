# docker build -t rawnext . && docker run --rm rawnext            run the demonstration on the CPU
# docker run --rm -it -v /corpora:/corpora:ro rawnext bash        open a shell for the other recipes
# With GPUs (the host needs NVIDIA's driver and its container toolkit; torch's wheels bring CUDA):
# docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t rawnext-cuda .
# docker run --rm --gpus all rawnext-cuda
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
RUN apt-get update \
  && apt-get install -y --no-install-recommends ffmpeg git make wget \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home rawnext
USER rawnext
WORKDIR /home/rawnext/recipe
COPY --chown=rawnext:rawnext . .
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN TORCH_INDEX_URL=$TORCH_INDEX make env
CMD ["make", "demo"]
