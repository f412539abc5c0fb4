# docker build -t rawnext . && docker run --rm rawnext            run the demonstration on the CPU
# docker run --rm -it -v /corpora:/corpora:ro rawnext bash        open a shell for the other recipes
FROM python:3.11-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends ffmpeg git make wget \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home rawnext
USER rawnext
WORKDIR /home/rawnext/recipe
COPY --chown=rawnext:rawnext . .
RUN TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu make env
CMD ["make", "demo"]
