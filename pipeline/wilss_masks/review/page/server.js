// Where the page's data come from: the server that gave the page.

const who = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** `fetch`, whose errors are the browser's own words, in ours. */
async function fetched(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Error("The server does not answer; start `wilss-masks review` again, then open the address that it prints.");
  }
}

/** Where the data come from, and where what is said is kept. */
export class Source {
  constructor() {
    this.who = who;
    this.isStatic = false;
  }

  async index() {
    return this.asked(await fetched("api/index"));
  }

  async changes(since) {
    return this.asked(await fetched(`api/changes?since=${since}`));
  }

  async disagreement() {
    const response = await fetched("api/disagreement");
    return response.ok ? new Float32Array(await response.arrayBuffer()) : null;
  }

  async image(image) {
    return this.asked(await fetched(`api/image/${image}`));
  }

  /** Regions of an image: {height, width, numbers}; throws a sentence where there are none. */
  async regions(image) {
    const response = await fetched(`api/regions/${image}`);
    if (!response.ok) await this.asked(response);
    const buffer = await response.arrayBuffer(), [height, width] = new Int32Array(buffer, 0, 2);
    return { height, width, numbers: new Int32Array(buffer, 8) };
  }

  imageAddress(image) {
    return `image/${image}.jpg`;
  }

  thumbAddress(image, category, version) {
    return `thumb/${image}-${category}.jpg?v=${version}`;
  }

  mapAddress(kind, image, category) {
    return `${kind}/${image}-${category}.png`;
  }

  async correct(changes) {
    return this.told("api/correct", { who, changes });
  }

  async undo(events) {
    return this.told("api/undo", { who, events });
  }

  async told(address, value) {
    const headers = { "content-type": "application/json" };
    return this.asked(await fetched(address, { method: "POST", headers, body: JSON.stringify(value) }));
  }

  async asked(response) {
    if (response.ok) return response.json();
    let sentence = "";
    try {
      sentence = (await response.json()).error;
    } catch {
      sentence = `the server answered ${response.status}.`;
    }
    const error = new Error(sentence);
    error.isRefused = true;
    throw error;
  }
}
