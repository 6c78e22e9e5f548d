// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Text of JSON objects and arrays, built member by member
library Json {
    /// @dev Adds `"name": "value"` to an object without braces.
    function field(string memory object, string memory name, string memory value)
        internal
        pure
        returns (string memory)
    {
        return raw(object, name, string.concat('"', value, '"'));
    }

    /// @dev Adds `"name": value`.
    function raw(string memory object, string memory name, string memory value)
        internal
        pure
        returns (string memory)
    {
        string memory member = string.concat('"', name, '": ', value);
        return bytes(object).length == 0 ? member : string.concat(object, ", ", member);
    }

    /// @dev Adds an item on a line of its own to an array without brackets.
    function item(string memory array, string memory object) internal pure returns (string memory) {
        string memory line = string.concat("\n    ", braces(object));
        return bytes(array).length == 0 ? line : string.concat(array, ",", line);
    }

    function braces(string memory object) internal pure returns (string memory) {
        return string.concat("{", object, "}");
    }

    function brackets(string memory array) internal pure returns (string memory) {
        return string.concat("[", array, "\n  ]");
    }
}
