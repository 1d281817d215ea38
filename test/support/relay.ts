/** A TCP relay that a test can cut: what was connected breaks, and nothing connects until it is mended. Or slow down. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { Transform } from "node:stream";

export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut = false;
  /** How long what comes now is held back. */
  #pause = () => Promise.resolve();

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
        one.pipe(this.#brake()).pipe(other);
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

  /** Every piece arrives `ms` later, until `hurry`. */
  slow(ms: number): void {
    const hurried = new Promise<void>(resolve => {
      this.hurry = () => {
        this.#pause = () => Promise.resolve();
        resolve();
      };
    });
    this.#pause = async () => {
      let timer: NodeJS.Timeout | undefined;
      const over = new Promise<void>(resolve => {
        timer = setTimeout(resolve, ms);
      });
      await Promise.race([over, hurried]);
      clearTimeout(timer);
    };
  }

  /** What is held back goes on at once, and so does all that follows. */
  hurry = (): void => {};

  #brake(): Transform {
    const pause = () => this.#pause();
    return new Transform({
      transform(piece, _encoding, done) {
        pause().then(() => this.push(piece));
        done();
      },
    });
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
