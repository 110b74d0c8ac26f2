//! What a job's status may say.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{batch::job, changed};
use crate::stored;

#[test]
fn the_status_of_a_job_has_to_be_possible() {
    let plain = stored(&job(""));
    let check = |old: &Value, status: Value, expected: Expect| {
        changed("status", old, |job| job["status"] = status, &["status.conditions"], expected);
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let done = json!({"conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        "startTime": "2026-11-23T17:00:00Z", "completionTime": "2026-11-23T17:01:00Z",
        "succeeded": 1});
    check(
        &plain,
        done.clone(),
        expect![[r#"
        status.conditions: [{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}]
    "#]],
    );
    check(
        &plain,
        json!({"active": -1, "ready": 1, "terminating": 2, "conditions": [condition("Complete"),
            condition("Failed")], "uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]},
            "completedIndexes": "0", "failedIndexes": "0"}),
        expect![[r#"
            422 Job.batch "a" is invalid: [status.active: Invalid value: -1: must be greater than or equal to 0, status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty, status.uncountedTerminatedPods.failed[0]: Duplicate value: "a", status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions, status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition, status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition, status.completionTime: Required value: completionTime is required for Complete jobs, status.terminating: Invalid value: 2: terminating>0 is invalid for finished job, status.startTime: Required value: startTime is required for finished job, status.uncountedTerminatedPods: Invalid value: {"succeeded":["a",""],"failed":["a"]}: must be empty for finished job, status.ready: Invalid value: 1: cannot set more ready pods than active, status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode, status.failedIndexes: Invalid value: "0": cannot set non-null failedIndexes when backoffLimitPerIndex is null, status.failedIndexes: Invalid value: "0": failedIndexes and completedIndexes overlap at index: 0]
              FieldValueInvalid status.active
              FieldValueInvalid status.uncountedTerminatedPods.succeeded[1]
              FieldValueDuplicate status.uncountedTerminatedPods.failed[0]
              FieldValueInvalid status.conditions
              FieldValueInvalid status.conditions
              FieldValueInvalid status.conditions
              FieldValueRequired status.completionTime
              FieldValueInvalid status.terminating
              FieldValueRequired status.startTime
              FieldValueInvalid status.uncountedTerminatedPods
              FieldValueInvalid status.ready
              FieldValueInvalid status.completedIndexes
              FieldValueInvalid status.failedIndexes
              FieldValueInvalid status.failedIndexes
        "#]],
    );
    check(
        &plain,
        json!({"startTime": "2026-11-23T17:01:00Z", "completionTime": "2026-11-23T17:00:00Z"}),
        expect![[r#"
            422 Job.batch "a" is invalid: [status.completionTime: Invalid value: "2026-11-23T17:00:00Z": cannot set completionTime when there is no Complete=True condition, status.completionTime: Invalid value: "2026-11-23T17:00:00Z": must be equal to or after `startTime`]
              FieldValueInvalid status.completionTime
              FieldValueInvalid status.completionTime
        "#]],
    );
    let mut finished = plain.clone();
    finished["status"] = done;
    check(
        &finished,
        json!({"conditions": [condition("SuccessCriteriaMet"), condition("FailureTarget")],
            "startTime": "2026-11-23T17:00:30Z", "completionTime": "2026-11-23T17:02:00Z"}),
        expect![[r#"
            422 Job.batch "a" is invalid: [status.completionTime: Invalid value: "2026-11-23T17:02:00Z": cannot set completionTime when there is no Complete=True condition, status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions, status.conditions: Invalid value: cannot disable the terminal Complete=True condition, status.succeeded: Invalid value: 0: cannot decrease the succeeded counter, status.completionTime: Invalid value: "2026-11-23T17:02:00Z": field is immutable, status.startTime: Invalid value: "2026-11-23T17:00:30Z": field is immutable for unsuspended job once set]
              FieldValueInvalid status.completionTime
              FieldValueInvalid status.conditions
              FieldValueInvalid status.conditions
              FieldValueInvalid status.succeeded
              FieldValueInvalid status.completionTime
              FieldValueInvalid status.startTime
        "#]],
    );
    let indexed =
        stored(&job(", completionMode: Indexed, completions: 4, backoffLimitPerIndex: 1"));
    check(
        &indexed,
        json!({"completedIndexes": "0-9", "failedIndexes": "1,1"}),
        expect![[r#"
        422 Job.batch "a" is invalid: [status.completedIndexes: Invalid value: "0-9": error parsing completedIndexes: too large index: "9", status.failedIndexes: Invalid value: "1,1": error parsing failedIndexes: non-increasing order, previous: 1, current: 1]
          FieldValueInvalid status.completedIndexes
          FieldValueInvalid status.failedIndexes
    "#]],
    );
    check(
        &indexed,
        json!({"completedIndexes": "0-1", "failedIndexes": "1"}),
        expect![[r#"
        422 Job.batch "a" is invalid: status.failedIndexes: Invalid value: "1": failedIndexes and completedIndexes overlap at index: 1
          FieldValueInvalid status.failedIndexes
    "#]],
    );
}
