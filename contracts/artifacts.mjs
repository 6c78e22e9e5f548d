// Reduces forge's output to what the Rust crates and the ledger's genesis read:
// one stable file a deployable contract, {contractName, abi, bytecode, deployedBytecode}.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const RUNTIME_LIMIT = 24_576;
const INITCODE_LIMIT = 49_152;

const [target] = process.argv.slice(2);
if (!target) {
  throw new Error("usage: node artifacts.mjs <directory>");
}

/** Every contract that forge compiled from src/ and that has code to deploy; forge leaves deleted sources behind. */
function* deployable() {
  for (const entry of readdirSync("out", { recursive: true }).sort()) {
    if (!entry.endsWith(".json") || entry.startsWith("build-info")) continue;
    const compiled = JSON.parse(readFileSync(join("out", entry), "utf8"));
    const [[source, name]] = Object.entries(compiled.metadata?.settings?.compilationTarget ?? { "": "" });
    if (source.startsWith("src/") && existsSync(source) && compiled.bytecode.object.length > 2 && hasInterface(compiled)) {
      yield { name, compiled };
    }
  }
}

/** Internal libraries compile to a stub with no interface; nobody deploys those. */
function hasInterface(compiled) {
  return compiled.abi.some((item) => item.type === "function");
}

function bytes(hex) {
  return (hex.length - 2) / 2;
}

/** A contract that runs in the storage of another: its variables have to be the first ones there, slot by slot. */
function assertSharedStorage(guest, host) {
  const layout = (name) => {
    const compiled = JSON.parse(readFileSync(join("out", `${name}.sol`, `${name}.json`), "utf8"));
    return compiled.storageLayout.storage.map(({ slot, offset, label }) => `${slot}+${offset} ${label}`);
  };
  const [shared, whole] = [layout(guest), layout(host)];
  const stray = shared.findIndex((variable, index) => variable !== whole[index]);
  if (stray !== -1) {
    throw new Error(`${guest} has ${shared[stray]} where ${host} has ${whole[stray]}`);
  }
}

assertSharedStorage("Remedies", "Leases");
assertSharedStorage("Cases", "Court");
assertSharedStorage("Verdicts", "Court");
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const { name, compiled } of deployable()) {
  const runtime = bytes(compiled.deployedBytecode.object);
  const initcode = bytes(compiled.bytecode.object);
  if (runtime > RUNTIME_LIMIT || initcode > INITCODE_LIMIT) {
    throw new Error(`${name}: ${runtime} bytes of code (limit ${RUNTIME_LIMIT}), ${initcode} of initcode (limit ${INITCODE_LIMIT})`);
  }
  const artifact = {
    contractName: name,
    abi: compiled.abi,
    bytecode: compiled.bytecode.object,
    deployedBytecode: compiled.deployedBytecode.object,
  };
  writeFileSync(join(target, `${name}.json`), `${JSON.stringify(artifact, null, 2)}\n`);
}
