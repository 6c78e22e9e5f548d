// The challenge on an accelerator. A word is four bytes, the first one lowest, as Keccak's own lanes are.

struct Shape {
    seed: array<vec4<u32>, 2>,
    // expand: which matrix. multiply: the first column of `right`.
    side_or_column: u32,
    // expand: the first line. multiply: columns of the product.
    line_or_columns: u32,
    // Lines, leaves or pairs.
    count: u32,
    // Words of a line.
    words: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> left: array<u32>;
@group(0) @binding(2) var<storage, read> right: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<u32>;

const ROUNDS = array<vec2<u32>, 24>(
    vec2(0x00000001u, 0x00000000u), vec2(0x00008082u, 0x00000000u), vec2(0x0000808au, 0x80000000u),
    vec2(0x80008000u, 0x80000000u), vec2(0x0000808bu, 0x00000000u), vec2(0x80000001u, 0x00000000u),
    vec2(0x80008081u, 0x80000000u), vec2(0x00008009u, 0x80000000u), vec2(0x0000008au, 0x00000000u),
    vec2(0x00000088u, 0x00000000u), vec2(0x80008009u, 0x00000000u), vec2(0x8000000au, 0x00000000u),
    vec2(0x8000808bu, 0x00000000u), vec2(0x0000008bu, 0x80000000u), vec2(0x00008089u, 0x80000000u),
    vec2(0x00008003u, 0x80000000u), vec2(0x00008002u, 0x80000000u), vec2(0x00000080u, 0x80000000u),
    vec2(0x0000800au, 0x00000000u), vec2(0x8000000au, 0x80000000u), vec2(0x80008081u, 0x80000000u),
    vec2(0x00008080u, 0x80000000u), vec2(0x80000001u, 0x00000000u), vec2(0x80008008u, 0x80000000u),
);
const PLACES = array<u32, 24>(
    10u, 7u, 11u, 17u, 18u, 3u, 5u, 16u, 8u, 21u, 24u, 4u, 15u, 23u, 19u, 13u, 12u, 2u, 20u, 14u, 22u, 9u, 6u, 1u,
);
const TURNS = array<u32, 24>(
    1u, 3u, 6u, 10u, 15u, 21u, 28u, 36u, 45u, 55u, 2u, 14u, 27u, 41u, 56u, 8u, 25u, 43u, 62u, 18u, 39u, 61u, 20u, 44u,
);

var<private> state: array<vec2<u32>, 25>;

fn turned(lane: vec2<u32>, by: u32) -> vec2<u32> {
    let ordered = select(lane, lane.yx, by >= 32u);
    let rest = by % 32u;
    if rest == 0u {
        return ordered;
    }
    return (ordered << vec2(rest)) | (ordered.yx >> vec2(32u - rest));
}

fn permute() {
    for (var round = 0u; round < 24u; round++) {
        var parity: array<vec2<u32>, 5>;
        for (var x = 0u; x < 5u; x++) {
            parity[x] = state[x] ^ state[x + 5u] ^ state[x + 10u] ^ state[x + 15u] ^ state[x + 20u];
        }
        for (var x = 0u; x < 5u; x++) {
            let change = parity[(x + 4u) % 5u] ^ turned(parity[(x + 1u) % 5u], 1u);
            for (var y = x; y < 25u; y += 5u) {
                state[y] ^= change;
            }
        }
        var last = state[1];
        for (var step = 0u; step < 24u; step++) {
            let place = PLACES[step];
            let next = state[place];
            state[place] = turned(last, TURNS[step]);
            last = next;
        }
        for (var y = 0u; y < 25u; y += 5u) {
            var row: array<vec2<u32>, 5>;
            for (var x = 0u; x < 5u; x++) {
                row[x] = state[y + x];
            }
            for (var x = 0u; x < 5u; x++) {
                state[y + x] = row[x] ^ (~row[(x + 1u) % 5u] & row[(x + 2u) % 5u]);
            }
        }
        state[0] ^= ROUNDS[round];
    }
}

fn absorb(index: u32, word: u32) {
    if (index & 1u) == 0u {
        state[index / 2u].x ^= word;
    } else {
        state[index / 2u].y ^= word;
    }
}

fn squeezed(index: u32) -> u32 {
    return select(state[index / 2u].x, state[index / 2u].y, (index & 1u) == 1u);
}

// The message ended after `words` of its last block.
fn pad(words: u32) {
    absorb(words, 1u);
    absorb(33u, 0x80000000u);
}

fn big_endian(word: u32) -> u32 {
    return (word << 24u) | ((word & 0xff00u) << 8u) | ((word >> 8u) & 0xff00u) | (word >> 24u);
}

fn keep_hash(place: u32) {
    for (var index = 0u; index < 8u; index++) {
        result[place * 8u + index] = squeezed(index);
    }
}

// 32 elements of a line: one hash, each byte less 128. B's words stand in reverse.
@compute @workgroup_size(64)
fn expand(@builtin(global_invocation_id) id: vec3<u32>) {
    let chunks = shape.words / 8u;
    if id.x >= shape.count * chunks {
        return;
    }
    state = array<vec2<u32>, 25>();
    for (var index = 0u; index < 8u; index++) {
        absorb(index, shape.seed[index / 4u][index % 4u]);
    }
    absorb(11u, shape.side_or_column << 24u);
    absorb(13u, big_endian(shape.line_or_columns + id.x / chunks));
    absorb(15u, big_endian(id.x % chunks));
    pad(16u);
    permute();
    for (var index = 0u; index < 8u; index++) {
        let place = select(index, 7u - index, shape.side_or_column == 2u);
        result[id.x * 8u + place] = squeezed(index) ^ 0x80808080u;
    }
}

const TILE = 64u;
const DEPTH = 8u;
var<workgroup> rows: array<u32, 512>;
var<workgroup> columns: array<u32, 512>;

// 64 by 64 elements of the product, four by four each.
@compute @workgroup_size(16, 16)
fn multiply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sums: array<i32, 16>;
    for (var first = 0u; first < shape.words; first += DEPTH) {
        for (var place = index; place < TILE * DEPTH; place += 256u) {
            let line = place / DEPTH;
            let word = first + place % DEPTH;
            rows[place] = left[(group.y * TILE + line) * shape.words + word];
            columns[place] = right[(group.x * TILE + line) * shape.words + word];
        }
        workgroupBarrier();
        for (var word = 0u; word < DEPTH; word++) {
            for (var row = 0u; row < 4u; row++) {
                let a = rows[(local.y * 4u + row) * DEPTH + word];
                for (var column = 0u; column < 4u; column++) {
                    let b = columns[(local.x * 4u + column) * DEPTH + word];
                    sums[row * 4u + column] += dot4I8Packed(a, b);
                }
            }
        }
        workgroupBarrier();
    }
    let top = group.y * TILE + local.y * 4u;
    let side = shape.side_or_column + group.x * TILE + local.x * 4u;
    for (var row = 0u; row < 4u; row++) {
        for (var column = 0u; column < 4u; column++) {
            let sum = bitcast<u32>(sums[row * 4u + column]);
            result[(top + row) * shape.line_or_columns + side + column] = sum;
        }
    }
}

// 256 elements, big-endian: seven blocks and a part.
@compute @workgroup_size(64)
fn leaves(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= shape.count {
        return;
    }
    state = array<vec2<u32>, 25>();
    for (var first = 0u; first < 256u; first += 34u) {
        let words = min(34u, 256u - first);
        for (var word = 0u; word < words; word++) {
            absorb(word, big_endian(left[id.x * 256u + first + word]));
        }
        if words < 34u {
            pad(words);
        }
        permute();
    }
    keep_hash(id.x);
}

// One level of the tree.
@compute @workgroup_size(64)
fn pairs(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= shape.count {
        return;
    }
    state = array<vec2<u32>, 25>();
    for (var word = 0u; word < 16u; word++) {
        absorb(word, left[id.x * 16u + word]);
    }
    pad(16u);
    permute();
    keep_hash(id.x);
}
