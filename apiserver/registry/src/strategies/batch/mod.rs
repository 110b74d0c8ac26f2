//! batch/v1.

mod cron_job;
mod indexes;
mod job;
mod job_policies;
mod job_spec;
mod job_status;
mod schedule;

pub use cron_job::CronJob;
pub use job::Job;
