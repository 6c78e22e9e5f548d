// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title BLS signatures on the curve BN254
/// @notice Signatures are points of G1, keys points of G2. A message becomes a point of G1 by RFC 9380:
/// `expand_message_xmd` with keccak256, two field elements, the Shallue–van de Woestijne map for each, their sum. G1
/// has no subgroups, so nothing is cleared.
/// @dev A point of G1 is (x, y). One of G2 is (x₁, x₀, y₁, y₀) for x₀ + x₁·i, as the pairing's precompile and drand have it.
library Bn254 {
    /// @notice A precompile refused its input, ran out of gas, or is missing on this chain.
    error PrecompileFailed(uint256 precompile);

    /// @notice The field's prime; it is 3 modulo 4.
    uint256 internal constant P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;

    uint256 private constant INVERT = P - 2;
    uint256 private constant ROOT = (P + 1) / 4;
    /// @dev 2²⁵⁶ modulo P.
    uint256 private constant WRAP = 0x0e0a77c19a07df2f666ea36f7879462c0a78eb28f5c70b3dd35d438dc58f0d9d;

    /// @dev The map's constants for y² = g(x) = x³ + 3 and Z = 1: g(Z), −Z/2, √(−3·g(Z)) with an even root, −4·g(Z)/3.
    uint256 private constant C1 = 4;
    uint256 private constant C2 = (P - 1) / 2;
    uint256 private constant C3 = 0x16789af3a83522eb353c98fc6b36d713d5d8d1cc5dffffffa;
    uint256 private constant C4 = 0x10216f7ba065e00de81ac1e7808072c9dd2b2385cd7b438469602eb24829a9bd;

    /// @dev Minus the generator of G2.
    uint256 private constant G2_X1 = 0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2;
    uint256 private constant G2_X0 = 0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed;
    uint256 private constant G2_Y1 = 0x275dc4a288d1afb3cbb1ac09187524c7db36395df7be3b99e673b13a075a65ec;
    uint256 private constant G2_Y0 = 0x1d9befcd05a5323e6da4d435f3b617cdb3af83285c2df711ef39c01571827f9d;

    uint256 private constant MODEXP = 5;
    uint256 private constant ADD = 6;
    uint256 private constant PAIRING = 8;

    /// @notice Whether `signature` is that of the message whose point is `hash`, by `key`'s owner. Reverts for what is no point.
    function verify(uint256[2] memory signature, uint256[2] memory hash, uint256[4] memory key)
        internal
        view
        returns (bool)
    {
        uint256[12] memory pairs = [
            signature[0],
            signature[1],
            G2_X1,
            G2_X0,
            G2_Y1,
            G2_Y0,
            hash[0],
            hash[1],
            key[0],
            key[1],
            key[2],
            key[3]
        ];
        uint256[1] memory one;
        bool ok;
        assembly ("memory-safe") {
            ok := staticcall(gas(), PAIRING, pairs, 384, one, 32)
            ok := and(ok, eq(returndatasize(), 32))
        }
        if (!ok) revert PrecompileFailed(PAIRING);
        return one[0] == 1;
    }

    /// @notice Whether it is a point of G2 other than infinity: on the curve, of the right order, with coordinates below P.
    function isKey(uint256[4] memory key) internal view returns (bool valid) {
        if (key[0] | key[1] | key[2] | key[3] == 0) return false;
        // The precompile refuses what is no point of the group; what the pairing yields is of no interest.
        uint256[6] memory pair = [1, 2, key[0], key[1], key[2], key[3]];
        assembly ("memory-safe") {
            valid := staticcall(gas(), PAIRING, pair, 192, pair, 32)
            valid := and(valid, eq(returndatasize(), 32))
        }
    }

    /// @notice Whether it is a point of G1 other than infinity. Coordinates at or above P count as what they are modulo P.
    function isOnCurve(uint256[2] memory point) internal pure returns (bool) {
        return mulmod(point[1], point[1], P) == _g(point[0]);
    }

    /// @notice A point of G1 that nobody knows a factor of.
    /// @param tag What separates this use from others; at most 255 bytes.
    function hashToPoint(bytes memory tag, bytes memory message)
        internal
        view
        returns (uint256[2] memory point)
    {
        (uint256 u0, uint256 u1) = _toField(tag, message);
        (uint256 x0, uint256 y0) = mapToPoint(u0);
        (uint256 x1, uint256 y1) = mapToPoint(u1);
        uint256[4] memory points = [x0, y0, x1, y1];
        bool ok;
        assembly ("memory-safe") {
            ok := staticcall(gas(), ADD, points, 128, point, 64)
            ok := and(ok, eq(returndatasize(), 64))
        }
        if (!ok) revert PrecompileFailed(ADD);
    }

    /// @notice The straight-line map of RFC 9380, F.1: some point of G1 for every element of the field.
    /// @param u Below P.
    function mapToPoint(uint256 u) internal view returns (uint256 x, uint256 y) {
        uint256 scaled = mulmod(mulmod(u, u, P), C1, P);
        uint256 plus = addmod(1, scaled, P);
        uint256 minus = addmod(1, P - scaled, P);
        uint256 inverse = _power(mulmod(minus, plus, P), INVERT);
        uint256 step = mulmod(mulmod(mulmod(u, minus, P), inverse, P), C3, P);

        // One of three candidates is on the curve; the third surely if the first two are not.
        bool found;
        x = addmod(C2, P - step, P);
        (found, y) = _height(x);
        if (!found) {
            x = addmod(C2, step, P);
            (found, y) = _height(x);
        }
        if (!found) {
            x = mulmod(mulmod(plus, plus, P), inverse, P);
            x = addmod(mulmod(mulmod(x, x, P), C4, P), 1, P);
            (, y) = _height(x);
        }
        if ((u ^ y) & 1 == 1) y = P - y;
    }

    /// @dev Two elements, each of 48 bytes of `expand_message_xmd`.
    function _toField(bytes memory tag, bytes memory message) private pure returns (uint256 u0, uint256 u1) {
        bytes memory suffix = abi.encodePacked(tag, uint8(tag.length));
        // A block of keccak256 is 136 bytes; 96 are asked for.
        bytes32 b0 = keccak256(abi.encodePacked(new bytes(136), message, uint16(96), uint8(0), suffix));
        bytes32 b1 = keccak256(abi.encodePacked(b0, uint8(1), suffix));
        bytes32 b2 = keccak256(abi.encodePacked(b0 ^ b1, uint8(2), suffix));
        bytes32 b3 = keccak256(abi.encodePacked(b0 ^ b2, uint8(3), suffix));
        u0 = addmod(mulmod(uint256(b1), 1 << 128, P), uint256(b2) >> 128, P);
        u1 = addmod(mulmod(uint128(uint256(b2)), WRAP, P), uint256(b3), P);
    }

    /// @dev A root of g(x), where there is one.
    function _height(uint256 x) private view returns (bool found, uint256 y) {
        uint256 square = _g(x);
        y = _power(square, ROOT);
        found = mulmod(y, y, P) == square;
    }

    function _g(uint256 x) private pure returns (uint256) {
        return addmod(mulmod(mulmod(x, x, P), x, P), 3, P);
    }

    function _power(uint256 base, uint256 exponent) private view returns (uint256) {
        uint256[6] memory words = [32, 32, 32, base, exponent, P];
        bool ok;
        assembly ("memory-safe") {
            ok := staticcall(gas(), MODEXP, words, 192, words, 32)
            ok := and(ok, eq(returndatasize(), 32))
        }
        if (!ok) revert PrecompileFailed(MODEXP);
        return words[0];
    }
}
