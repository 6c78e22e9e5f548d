//! What a JSON-RPC answer has to look like before anybody believes it.

use serde_json::Value;

/// The longest answer that is looked at, in bytes of JSON.
const MAX_ANSWER: usize = 16 << 20;

/// True when `answer` could be an answer to `method`. A method that is not listed may answer anything.
pub(crate) fn is_plausible(method: &str, answer: &str) -> bool {
    if answer.len() > MAX_ANSWER {
        return false;
    }
    match method {
        "eth_chainId"
        | "eth_blockNumber"
        | "eth_getTransactionCount"
        | "eth_estimateGas"
        | "eth_gasPrice"
        | "eth_maxPriorityFeePerGas" => quantity(answer).is_some(),
        "eth_getBalance" => hex_digits(answer).is_some_and(|digits| !digits.is_empty() && digits.len() <= 64),
        "eth_sendRawTransaction" => hex_digits(answer).is_some_and(|digits| digits.len() == 64),
        "eth_call" | "eth_getCode" => hex_digits(answer).is_some_and(|digits| digits.len() % 2 == 0),
        "eth_getTransactionReceipt" => is_null_or(answer, &["transactionHash", "blockHash"]),
        "eth_getBlockByNumber" | "eth_getBlockByHash" => {
            is_null_or(answer, &["hash", "parentHash", "timestamp"])
        }
        "eth_getLogs" => answer.starts_with('['),
        "eth_feeHistory" => answer.starts_with('{'),
        _ => true,
    }
}

/// The number that a JSON string such as `"0x1f"` states.
pub(crate) fn quantity(answer: &str) -> Option<u64> {
    u64::from_str_radix(hex_digits(answer)?, 16).ok()
}

fn hex_digits(answer: &str) -> Option<&str> {
    let digits = answer.trim().strip_prefix("\"0x")?.strip_suffix('"')?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)
}

fn is_null_or(answer: &str, fields: &[&str]) -> bool {
    match serde_json::from_str(answer) {
        Ok(Value::Null) => true,
        Ok(Value::Object(object)) => fields.iter().all(|field| object.contains_key(*field)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_told_from_answers() {
        assert!(is_plausible("eth_blockNumber", "\"0x1f\""));
        assert!(!is_plausible("eth_blockNumber", "\"banana\""));
        assert!(!is_plausible("eth_blockNumber", "31"));
        assert!(!is_plausible("eth_blockNumber", "\"0x\""));
        assert!(is_plausible("eth_getTransactionReceipt", "null"));
        assert!(!is_plausible("eth_getTransactionReceipt", "{\"status\":\"0x1\"}"));
        assert!(!is_plausible("eth_sendRawTransaction", "\"0x12\""));
        assert!(is_plausible("eth_call", "\"0x\""));
        assert!(is_plausible("tw_unheard", "[1]"));
    }
}
