# syntax=docker/dockerfile:1
# docker build -t foreword:0.1.0 .                        onnxruntime; TensorFlow.js falls back to WebAssembly
# docker build -t foreword:0.1.0-tfjs --target tfjs .     TensorFlow.js with its native library
# Both need package registries alone (npm, Debian, PyPI). The base is glibc's: onnxruntime has no musl build.

FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci
COPY tsconfig.json ./
COPY src src
RUN npm run --silent build && npm prune --omit=dev
# What no Linux of this architecture reads: half a gigabyte of other systems' libraries, and source maps.
RUN find node_modules/onnxruntime-node/bin -mindepth 2 -maxdepth 3 -type d \
      \( -name darwin -o -name win32 -o -path "*/linux/*" ! -name "$(node -p process.arch)" \) -prune -exec rm -r {} + \
  && find node_modules dist -name "*.map" -delete

# The native binding of TensorFlow.js, as scripts/build-tfjs-node.sh makes it.
FROM build AS build-tfjs
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ make python3 python3-pip \
  && rm -rf /var/lib/apt/lists/*
COPY scripts/build-tfjs-node.sh scripts/
RUN --mount=type=cache,target=/root/.npm npm run --silent build:tfjs-node

# Without the binding, all that TensorFlow.js needs is its core and the backends that are not native.
FROM build AS build-default
WORKDIR /app/node_modules/@tensorflow
RUN rm -r tfjs tfjs-node tfjs-backend-webgl tfjs-converter tfjs-data tfjs-layers

FROM node:22-bookworm-slim AS base
ENV NODE_ENV=production FOREWORD_HOST=0.0.0.0 FOREWORD_PORT=8080 FOREWORD_DATA=/data
WORKDIR /app
COPY package.json LICENSE ./
COPY prompts prompts
# The backbone and its compiled variants. All else may be read-only; a small /tmp is enough.
RUN mkdir /data && chown 1000:1000 /data
VOLUME /data
# "node" of the base image; by number, so that an orchestrator can see that it is not root.
USER 1000:1000
EXPOSE 8080
# Of the server; who runs "worker" leaves it out.
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s --start-interval=2s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.FOREWORD_PORT + '/readyz').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["serve"]

FROM base AS tfjs
ENV FOREWORD_RUNTIME=tfjs
COPY --from=build-tfjs /app/node_modules node_modules
COPY --from=build-tfjs /app/dist dist

# The last one is what is built without --target.
FROM base AS default
COPY --from=build-default /app/node_modules node_modules
COPY --from=build-default /app/dist dist
