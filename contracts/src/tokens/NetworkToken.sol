// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title Tradewind's network token (TWD, 18 decimals)
/// @notice Optional: a deployment may stake a stablecoin instead. Fixed supply, burnable, ERC-2612.
contract NetworkToken is ERC20, ERC20Burnable, ERC20Permit {
    /// @param holder Receives the whole supply.
    /// @param supply In base units (10^-18 TWD).
    constructor(address holder, uint256 supply) ERC20("Tradewind", "TWD") ERC20Permit("Tradewind Token") {
        _mint(holder, supply);
    }
}
