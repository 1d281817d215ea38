/**
 * A TCP relay that a test can cut (what was connected breaks, and nothing connects until it is mended), silence or slow down. It
 * holds what it is sent however much that is.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Nothing passes any more. */
  readonly #silent = new WeakSet<Socket>();
  #cut = false;
  /** How long what comes is held back, and what ends that sooner. */
  #slow: { ms: number; over: AbortController } | null = null;

  private constructor(target: number) {
    this.#server = createServer(near => {
      if (this.#cut) {
        near.destroy();
        return;
      }
      const far = connect(target, "127.0.0.1");
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on("data", piece => void this.#held().then(() => this.#silent.has(one) || other.write(piece)));
        one.on("error", () => {});
        one.once("close", () => {
          other.destroy();
          this.#sockets.delete(one);
        });
      }
    });
  }

  static async to(target: number): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>(resolve => relay.#server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#cut = false;
  }

  /** What is connected stays so, and hears nothing more; what connects from now on does. */
  silence(): void {
    for (const socket of this.#sockets) this.#silent.add(socket);
  }

  /** Every piece arrives `ms` later, until `hurry`. */
  slow(ms: number): void {
    this.#slow = { ms, over: new AbortController() };
  }

  /** What is held back goes on at once, and so does all that follows. */
  hurry(): void {
    this.#slow?.over.abort();
    this.#slow = null;
  }

  async #held(): Promise<void> {
    if (this.#slow) await sleep(this.#slow.ms, null, { signal: this.#slow.over.signal }).catch(() => {});
  }

  close(): void {
    this.cut();
    this.hurry();
    this.#server.close();
  }
}
