# gsp-deploy with TensorRT on a Jetson of JetPack 6: command line, fused plugin, C++ library. See README.md.
# Built on the device, from the repository's root:
#   docker build -f plugins/docker/jetson.Dockerfile -t gsp-deploy:jetson .
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

FROM ${BASE} AS native
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake g++ libjpeg-dev zlib1g-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml ./
COPY plugins plugins
# Orin's compute capability.
ARG CUDA_ARCHITECTURES=87
RUN cmake -S plugins -B /build -DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc -DGSP_TENSORRT=ON \
      -DGSP_RUNTIME=ON -DGSP_RUNTIME_TENSORRT=ON -DGSP_RUNTIME_ONNXRUNTIME=OFF \
      "-DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}" \
 && cmake --build /build --parallel 4 \
 && cmake --install /build --prefix /opt/gsp \
 && install -D --target-directory=/opt/gsp/bin /build/runtime/embed_images /build/runtime/search /build/runtime/pipeline

FROM ${BASE} AS wheel
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY gsp_deploy gsp_deploy
COPY cli cli
COPY models models
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE}
# libjpeg and zlib for the C++ programs; TensorRT's Python package is JetPack's own.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libjpeg-turbo8 zlib1g \
      python3-libnvinfer python3-pip \
 && rm -rf /var/lib/apt/lists/*
# cuda-python's version is that of JetPack's CUDA. The extra `gpu` would bring another TensorRT.
ARG CUDA_PYTHON=12.6
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m pip install --no-cache-dir "/wheels/$(ls /wheels)[cpu,serve]" \
      "cuda-python==${CUDA_PYTHON}.*" "nvidia-ml-py>=12.535"
COPY --from=native /opt/gsp /opt/gsp
ENV PATH=/opt/gsp/bin:${PATH} LD_LIBRARY_PATH=/opt/gsp/lib:${LD_LIBRARY_PATH} HOME=/tmp
RUN gsp-deploy --version
WORKDIR /work
ENTRYPOINT ["gsp-deploy"]
CMD ["doctor"]
