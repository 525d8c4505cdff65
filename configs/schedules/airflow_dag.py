"""A nightly scan in Airflow 3: put this file into the DAGs folder, with rtdscan installed on the workers.

A gate that says no (exit status 3) skips what follows instead of failing, for a retry would change nothing; a busy
OUTPUT (4) skips it too. Everything else is a failure: the retry resumes the scan where it ended.
"""

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

SCAN = """
rtdscan scan "$CORPUS" "$QUALITY" --config "$CONFIG" --json || {
  status=$?
  case $status in 3 | 4) exit 99 ;; *) exit $status ;; esac
}
"""

with DAG(
    dag_id="rtdscan_nightly",
    schedule="15 2 * * *",
    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),
    catchup=False,  # a scan reads all that is new, whatever night it came
    max_active_runs=1,
    tags=["data quality"],
) as dag:
    scan = BashOperator(
        task_id="scan",
        bash_command=SCAN,
        env={
            "CORPUS": "/data/corpus",
            "QUALITY": "/data/quality",
            "CONFIG": "/opt/rtdscan/configs/nightly.yaml",
        },
        append_env=True,
        skip_on_exit_code=99,
        retries=2,
        retry_delay=pendulum.duration(minutes=10),
    )
    publish = BashOperator(task_id="publish", bash_command="test -f /data/quality/run.json")
    scan >> publish
