//! Sets of indexes as jobs write them: `1,3-5,7`.

/// How many indexes a text names. Errors: in upstream's words.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that both texts name; parts that can't be read are left to `count`.
pub fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let parts = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (one, other) = (parts(one), parts(other));
    let (mut at, mut beside) = (0, 0);
    while let (Some((a, b)), Some((x, y))) = (one.get(at), other.get(beside)) {
        if a <= y && x <= b {
            return Some(*a.max(x));
        }
        if a <= x { at += 1 } else { beside += 1 }
    }
    None
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| -> Result<i64, String> {
        let unreadable = || format!("cannot convert string to integer for index: {text:?}");
        let index = text.parse::<i64>().map_err(|_| unreadable())?;
        if index >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(index)
    };
    match *part.split('-').collect::<Vec<_>>().as_slice() {
        [only] => index(only).map(|only| (only, only)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_indexes() {
        let all = ["", "0", "1,3-5,7", "1-2-3", "x", "9", "3,2", "3-3", "1-9"];
        let lines: Vec<String> =
            all.iter().map(|text| format!("{text}: {:?}", count(text, 8))).collect();
        expect_test::expect![[r#"
            : Ok(0)
            0: Ok(1)
            1,3-5,7: Ok(5)
            1-2-3: Err("the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'")
            x: Err("cannot convert string to integer for index: \"x\"")
            9: Err("too large index: \"9\"")
            3,2: Err("non-increasing order, previous: 3, current: 2")
            3-3: Err("non-increasing order, previous: 3, current: 3")
            1-9: Err("too large index: \"9\"")"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(overlap("0-2,5", "3,4-6", 8), Some(5));
        assert_eq!(overlap("0-2", "3", 8), None);
    }
}
