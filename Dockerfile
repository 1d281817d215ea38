# syntax=docker/dockerfile:1
# docker build -t foreword .          The server with onnxruntime; TensorFlow.js falls back to WebAssembly.
FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-fund --no-audit
COPY tsconfig.json ./
COPY src src
RUN npm run --silent build && npm prune --omit=dev --no-fund --no-audit

FROM node:22-bookworm-slim AS default
ENV NODE_ENV=production FOREWORD_HOST=0.0.0.0 FOREWORD_DATA=/data
WORKDIR /app
COPY --from=build --chown=root:root /app/node_modules node_modules
COPY --from=build --chown=root:root /app/dist dist
COPY package.json LICENSE ./
COPY prompts prompts
RUN mkdir /data && chown node:node /data
VOLUME /data
USER node
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8080/readyz').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["serve"]
