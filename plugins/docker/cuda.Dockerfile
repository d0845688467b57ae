# gsp-deploy with TensorRT on a GPU of x86-64: command line, fused plugin, C++ library. See README.md.
# Built from the repository's root:
#   docker build -f plugins/docker/cuda.Dockerfile -t gsp-deploy:cuda .
ARG BASE=nvcr.io/nvidia/tensorrt:25.08-py3

FROM ${BASE} AS native
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake g++ libjpeg-dev zlib1g-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml ./
COPY plugins plugins
# One entry a compute capability, as in 80;86;90; empty for all that the toolkit knows.
ARG CUDA_ARCHITECTURES=
RUN cmake -S plugins -B /build -DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc -DGSP_TENSORRT=ON \
      -DGSP_RUNTIME=ON -DGSP_RUNTIME_TENSORRT=ON -DGSP_RUNTIME_ONNXRUNTIME=OFF \
      ${CUDA_ARCHITECTURES:+"-DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}"} \
 && cmake --build /build --parallel 4 \
 && cmake --install /build --prefix /opt/gsp \
 && install -D --target-directory=/opt/gsp/bin /build/runtime/embed_images /build/runtime/search /build/runtime/pipeline

FROM ${BASE} AS wheel
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY gsp_deploy gsp_deploy
COPY cli cli
COPY models models
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE}
# libjpeg and zlib for the C++ programs; TensorRT and CUDA are the base image's.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libjpeg-turbo8 zlib1g \
 && rm -rf /var/lib/apt/lists/*
# cuda-python's major version is that of the base image's CUDA. TensorRT's Python package comes with the
# base image, so that the extra `gpu`, which would bring another, is not asked for.
ARG CUDA_PYTHON=13.0
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir "/wheels/$(ls /wheels)[cpu,serve]" \
      "cuda-python==${CUDA_PYTHON}.*" "nvidia-ml-py>=12.535"
COPY --from=native /opt/gsp /opt/gsp
ENV PATH=/opt/gsp/bin:${PATH} LD_LIBRARY_PATH=/opt/gsp/lib:${LD_LIBRARY_PATH} HOME=/tmp
RUN gsp-deploy --version
WORKDIR /work
ENTRYPOINT ["gsp-deploy"]
CMD ["doctor"]
