/** What stands in docker/ is what its programs take, names what there is, and is as closed as it can be. */
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { describe, expect, test } from "vitest";
import { Config, environmentName, loadConfig } from "../../src/config.ts";
import {
  composed,
  containers,
  documentsOf,
  image,
  type Json,
  manifestFiles,
  manifests,
  pods,
  root,
  text,
  tool,
} from "./tools.ts";

const services: Record<string, Json> = composed({ REDIS_PASSWORD: "abc", WORKER_THREADS: "1" }).services;
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const keysOf = (path: string) =>
  text(path)
    .split("\n")
    .flatMap(line => /^([A-Z_]+)=/.exec(line)?.[1] ?? []);

describe("by their programs", () => {
  test("the Dockerfile passes its linter", () => {
    expect(tool("hadolint", ["--failure-threshold", "style", "Dockerfile"])).toEqual({ code: 0, said: "" });
    expect(tool("hadolint", ["-"], "FROM node:latest\nRUN cd /tmp\n").said).toMatch(/DL3007.*DL3003/s);
  });

  test("Docker Compose takes compose.yaml, and says what is missing", () => {
    expect(Object.keys(services)).toEqual(["redis", "server", "worker"]);
    const example = ["-f", "docker/compose.yaml", "--env-file", "docker/.env.example", "config", "-q"];
    expect(tool("docker-compose", example).said).toContain("put a password into docker/.env, ");
    const wrong = "services: {a: {image: redis, red_only: true}}";
    expect(tool("docker-compose", ["-f", "-", "config", "-q"], wrong).said).toContain("red_only");
  });

  test.each(manifestFiles.filter(path => !path.endsWith("kustomization.yaml")))(
    "%s satisfies Kubernetes' schemas, without a field that they do not know",
    path => {
      const { code, said } = tool("kubernetes-validate", ["--strict", path]);
      expect(code, said).toBe(0);
      const unknown = said.split("\n").filter(line => line.startsWith("WARN"));
      const scaled = documentsOf(path).filter(({ kind }) => kind === "ScaledObject");
      expect(unknown).toHaveLength(scaled.length);
      for (const one of scaled) new ScaledObject(one).validate();
    },
  );

  test("the schemas do refuse", () => {
    const server = text("docker/kubernetes/server.yaml");
    const wrong = server.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem");
    const path = join(mkdtempSync(join(tmpdir(), "foreword-manifest-")), "server.yaml");
    writeFileSync(path, wrong);
    expect(tool("kubernetes-validate", ["--strict", path]).said).toContain("readOnlyRootFileSystem");
    const [scaled] = documentsOf("docker/kubernetes/worker-scaling.yaml");
    expect(() =>
      new ScaledObject({ ...scaled, spec: { ...scaled.spec, triggers: [{}] } }).validate(),
    ).toThrow();
  });
});

describe("what they name is there", () => {
  const known = [
    ...Object.keys(Config.properties).map(name => environmentName(name as keyof Config)),
    "FOREWORD_CONFIG",
  ];
  const ours = (names: readonly string[]) => names.filter(name => name.startsWith("FOREWORD_"));

  test("settings", () => {
    const named = {
      image: Object.keys(image.env),
      server: Object.keys(services.server.environment),
      worker: Object.keys(services.worker.environment),
      secret: keysOf("docker/kubernetes/secret.env.example"),
      ...Object.fromEntries(
        containers.map(({ name, env = [] }) => [`${name} pod`, env.map((one: Json) => one.name)]),
      ),
    };
    for (const [place, names] of Object.entries(named))
      expect(
        ours(names).filter(name => !known.includes(name)),
        place,
      ).toEqual([]);
    expect(ours(named.server)).toContain("FOREWORD_REGISTRY");
    for (const service of [services.server, services.worker]) {
      const env = { ...image.env, ...service.environment };
      expect(loadConfig({ env })).toMatchObject({
        jobs: "bullmq",
        host: "0.0.0.0",
        port: 8080,
        data: "/data",
      });
    }
    expect(loadConfig({ env: services.worker.environment }).trainThreads).toBe(1);
  });

  test("a part of a processor is none of the threads' business", () => {
    const { server, worker } = composed({
      REDIS_PASSWORD: "abc",
      SERVER_CPUS: "1.5",
      WORKER_CPUS: "0.5",
    }).services;
    expect(server.deploy.resources.limits.cpus).toBe(1.5);
    for (const { environment } of [server, worker]) expect(loadConfig({ env: environment }).threads).toBe(2);
  });

  test("variables of compose.yaml are in the example, and the other way round", () => {
    const used = [...text("docker/compose.yaml").matchAll(/\$\{([A-Z_]+)/g)].map(([, name]) => name!);
    expect([...new Set(used)].sort()).toEqual(keysOf("docker/.env.example").sort());
    expect(text(".gitignore").split("\n")).toEqual(
      expect.arrayContaining(["docker/.env", "docker/kubernetes/secret.env"]),
    );
  });

  test("files, which the image's context holds", () => {
    const allowed = text(".dockerignore")
      .split("\n")
      .flatMap(line => /^!(.+)/.exec(line)?.[1] ?? []);
    const copied = image.file
      .getCOPYs()
      .filter(copy => !copy.getFromFlag())
      .flatMap(copy =>
        copy
          .getArguments()
          .slice(0, -1)
          .map(argument => argument.getValue()),
      );
    for (const path of copied) expect(existsSync(join(root, path)), path).toBe(true);
    expect([...new Set(copied)].sort()).toEqual(allowed.sort());
    for (const { type, source } of services.redis.volumes)
      if (type === "bind") expect(existsSync(source)).toBe(true);
  });

  test("every manifest is in a kustomization, and each file there exists", () => {
    const listed = manifestFiles
      .filter(path => path.endsWith("kustomization.yaml"))
      .flatMap(path => {
        const [{ resources, configMapGenerator = [] }] = documentsOf(path);
        const files = [...resources, ...configMapGenerator.flatMap((one: Json) => one.files)];
        return files.map((name: string) => normalize(join(path, "..", name)));
      });
    for (const path of listed) expect(existsSync(join(root, path)), path).toBe(true);
    const kinds = manifestFiles.filter(path => !path.endsWith("kustomization.yaml"));
    expect(listed).toEqual(expect.arrayContaining(kinds));
    expect(listed).toContain("docker/redis");
  });

  test("ports, selectors and scaling targets", () => {
    const named = (kind: string, name: string) =>
      manifests.find(one => one.kind === kind && one.metadata.name === name);
    expect(text("Dockerfile")).toContain(`EXPOSE ${image.env.FOREWORD_PORT}`);
    expect(image.healthcheck).toContain("process.env.FOREWORD_PORT");
    expect(image.healthcheck).not.toContain(image.env.FOREWORD_PORT);
    for (const { kind, metadata, spec } of manifests) {
      if (kind === "Service") {
        const pod = ["Deployment", "StatefulSet"].map(of => named(of, metadata.name)).find(Boolean);
        expect(pod.spec.template.metadata.labels).toMatchObject(spec.selector);
        const ports = pod.spec.template.spec.containers[0].ports.map((port: Json) => port.name);
        expect(ports).toContain(spec.ports[0].targetPort);
      }
      if (kind === "PodDisruptionBudget")
        expect(named("Deployment", metadata.name).spec.selector).toEqual(spec.selector);
      if (spec?.scaleTargetRef)
        expect(named(spec.scaleTargetRef.kind, spec.scaleTargetRef.name)).toBeDefined();
      if (kind === "Deployment")
        expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
    }
    const [server] = named("Deployment", "foreword-server").spec.template.spec.containers;
    expect(server.ports).toEqual([{ name: "http", containerPort: Number(image.env.FOREWORD_PORT) }]);
    const [redis] = named("Service", "foreword-redis").spec.ports;
    expect(text("docker/kubernetes/secret.env.example")).toContain(`@foreword-redis:${redis.port}`);
  });

  test("stages, and a version of every image", () => {
    const froms = image.file.getFROMs();
    const stages = froms.map(from => from.getBuildStage());
    const bases = froms.map(from => from.getImage()!).filter(name => !stages.includes(name));
    expect(stages).toEqual(expect.arrayContaining(["default", "tfjs"]));
    // The last stage is what is built without a target.
    expect(stages.at(-1)).toBe("default");
    expect(services.server.build.target).toBe("default");
    const tfjs = composed({ REDIS_PASSWORD: "abc", FOREWORD_IMAGE: "foreword:a", FOREWORD_TARGET: "tfjs" });
    for (const name of ["server", "worker"])
      expect(tfjs.services[name]).toMatchObject({ image: "foreword:a", build: { target: "tfjs" } });
    const own = [services.server, services.worker, ...containers].map(one => one.image);
    const images = [...bases, ...own, services.redis.image];
    for (const name of images) expect(name).toMatch(/^[a-z/]+:(?!latest)[\w.-]+$/);
    expect(new Set(own)).toEqual(new Set([`foreword:${version}`, services.redis.image]));
  });
});

describe("they are closed", () => {
  test("compose: nobody is root or writes outside its volume, and ports are this machine's", () => {
    for (const [name, service] of Object.entries(services)) {
      expect(service, name).toMatchObject({
        read_only: true,
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
        user: expect.stringMatching(/^[1-9]\d*:[1-9]\d*$/),
        deploy: { resources: { limits: { memory: expect.anything(), cpus: expect.anything() } } },
      });
      for (const port of service.ports ?? []) expect(port.host_ip).toBe("127.0.0.1");
    }
  });

  test("Kubernetes: nor there, and no secret stands in a file", () => {
    expect(pods).toHaveLength(3);
    for (const pod of pods) {
      expect(pod.securityContext).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: "RuntimeDefault" },
      });
      expect(pod.automountServiceAccountToken).toBe(false);
    }
    for (const container of containers) {
      expect(container.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
      expect(container.resources).toMatchObject({
        requests: { memory: expect.anything() },
        limits: { memory: expect.anything() },
      });
    }
    expect(manifests.filter(({ kind }) => kind === "Secret")).toEqual([]);
    expect(text("docker/.env.example")).toMatch(/^REDIS_PASSWORD=$/m);
    expect(text("docker/kubernetes/secret.env.example")).toMatch(/^REDIS_PASSWORD=$/m);
  });

  test("a process has as long to end as it may take", () => {
    const ms = (duration: string) => Number(duration.replace("s", "")) * 1000;
    const graces = ["serve", "worker"].map(name =>
      Number(/GRACE_MS = ([\d_]+)/.exec(text(`src/cli/${name}.ts`))![1]!.replace("_", "")),
    );
    for (const [at, name] of ["server", "worker"].entries()) {
      expect(ms(services[name].stop_grace_period)).toBeGreaterThan(graces[at]!);
      const { terminationGracePeriodSeconds } = pods.find(pod => pod.containers[0].name === name);
      expect(terminationGracePeriodSeconds * 1000).toBeGreaterThan(graces[at]!);
    }
  });

  test("Redis gets the rights that README names", () => {
    const [, rights] = /^user foreword on #\$hash (.+)$/m.exec(text("docker/redis/start.sh"))!;
    for (const readme of ["README.md", "README.zh-CN.md"]) expect(text(readme)).toContain(`\`${rights}\``);
    expect(text("docker/redis/start.sh")).toContain("\nuser default off resetpass ");
  });
});
