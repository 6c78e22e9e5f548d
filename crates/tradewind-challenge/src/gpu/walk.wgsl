// The memory walk on an accelerator. A block is sixteen words, in four quarters.

struct Shape {
    lanes: u32,
    // Lanes of a part.
    in_part: u32,
    // A lane has 2^place_bits blocks.
    place_bits: u32,
    // fill: lanes. walk: walkers.
    count: u32,
    // walk: how many.
    steps: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
// fill: the first block of each lane. walk: where each walker is.
@group(0) @binding(1) var<storage, read_write> states: array<vec4<u32>>;
// PARTS

alias Block = array<vec4<u32>, 4>;

fn left(x: vec4<u32>, by: u32) -> vec4<u32> {
    return (x << vec4(by)) | (x >> vec4(32u - by));
}

// Four quarter rounds at once: one on each component.
fn quarters(x: ptr<function, Block>) {
    (*x)[0] += (*x)[1];
    (*x)[3] = left((*x)[3] ^ (*x)[0], 16u);
    (*x)[2] += (*x)[3];
    (*x)[1] = left((*x)[1] ^ (*x)[2], 12u);
    (*x)[0] += (*x)[1];
    (*x)[3] = left((*x)[3] ^ (*x)[0], 8u);
    (*x)[2] += (*x)[3];
    (*x)[1] = left((*x)[1] ^ (*x)[2], 7u);
}

fn mix(block: Block) -> Block {
    var x = block;
    for (var round = 0u; round < 4u; round++) {
        quarters(&x);
        x[1] = x[1].yzwx;
        x[2] = x[2].zwxy;
        x[3] = x[3].wxyz;
        quarters(&x);
        x[1] = x[1].wxyz;
        x[2] = x[2].zwxy;
        x[3] = x[3].yzwx;
    }
    return Block(x[0] + block[0], x[1] + block[1], x[2] + block[2], x[3] + block[3]);
}

@compute @workgroup_size(64)
fn fill(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= shape.count {
        return;
    }
    let first = 4u * (id.x << shape.place_bits);
    var last: Block;
    for (var quarter = 0u; quarter < 4u; quarter++) {
        last[quarter] = states[4u * id.x + quarter];
        part0[first + quarter] = last[quarter];
    }
    for (var place = 1u; place < (1u << shape.place_bits); place++) {
        let earlier = first + 4u * (last[0].x % place);
        var next: Block;
        for (var quarter = 0u; quarter < 4u; quarter++) {
            next[quarter] = last[quarter] ^ part0[earlier + quarter];
        }
        last = mix(next);
        for (var quarter = 0u; quarter < 4u; quarter++) {
            part0[first + 4u * place + quarter] = last[quarter];
        }
    }
}

fn memory(part: u32, block: u32, quarter: u32) -> vec4<u32> {
    switch part {
        // CASES
        default: { return part0[4u * block + quarter]; }
    }
}

// The lane of a state: (its first two words / blocks of a lane) mod lanes, a byte at a time. There are fewer than 2^24 lanes.
fn lane_of(low: u32, high: u32) -> u32 {
    let bits = shape.place_bits;
    var upper = high;
    var lower = low;
    if bits > 0u {
        upper = high >> bits;
        lower = (low >> bits) | (high << (32u - bits));
    }
    var rest = 0u;
    for (var byte = 0u; byte < 4u; byte++) {
        rest = ((rest << 8u) | ((upper >> (24u - 8u * byte)) & 255u)) % shape.lanes;
    }
    for (var byte = 0u; byte < 4u; byte++) {
        rest = ((rest << 8u) | ((lower >> (24u - 8u * byte)) & 255u)) % shape.lanes;
    }
    return rest;
}

@compute @workgroup_size(64)
fn walk(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= shape.count {
        return;
    }
    var state: Block;
    for (var quarter = 0u; quarter < 4u; quarter++) {
        state[quarter] = states[4u * id.x + quarter];
    }
    for (var step = 0u; step < shape.steps; step++) {
        let lane = lane_of(state[0].x, state[0].y);
        let place = state[0].x & ((1u << shape.place_bits) - 1u);
        let block = ((lane % shape.in_part) << shape.place_bits) + place;
        for (var quarter = 0u; quarter < 4u; quarter++) {
            state[quarter] ^= memory(lane / shape.in_part, block, quarter);
        }
        state = mix(state);
    }
    for (var quarter = 0u; quarter < 4u; quarter++) {
        states[4u * id.x + quarter] = state[quarter];
    }
}
