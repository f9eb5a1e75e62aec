"""What depends on the database's ways, again over PostgreSQL: filters into JSON, reservations, races, slices."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from app.settings import Settings
from app.stores.database import Database
from app.stores.migrate import upgrade
from app.stores.tables import metadata
from tests.app.api.test_artifacts import (  # noqa: F401 - collected again here
    test_artifacts_are_listed_by_model_and_job,
    test_lineage_names_job_and_artifact,
)
from tests.app.api.test_datasets import test_dataset_and_model_of_an_unfinished_job_stay  # noqa: F401
from tests.app.api.test_events import test_stream_tells_the_whole_history_and_ends  # noqa: F401
from tests.app.api.test_figures import (  # noqa: F401
    test_attempts_that_lost_their_worker_are_summed,
    test_ended_work_is_counted_by_kind_and_state,
    test_lease_age_tells_of_the_work_longest_without_a_renewal,
    test_paused_search_has_no_lease_that_ages,
    test_stored_bytes_count_a_content_once_within_its_noun,
)
from tests.app.api.test_jobs import (  # noqa: F401
    test_cuda_job_waits_in_the_gpu_queue,
    test_key_of_a_gateway_that_died_is_taken_over,
    test_list_is_filtered_by_state_and_model,
    test_pages_hold_every_job_once,
    test_refused_request_gives_its_key_back,
    test_same_key_and_body_answer_the_same_job,
    test_same_key_in_flight_is_a_conflict,
    test_simultaneous_posts_with_one_key_make_one_job,
)
from tests.app.api.test_keys import admin, test_rotated_key_holds_through_its_grace  # noqa: F401
from tests.app.api.test_limits import test_same_content_counts_once  # noqa: F401
from tests.app.api.test_triggers import (  # noqa: F401
    test_delivery_whose_handling_died_makes_no_second_job,
    test_same_delivery_answers_the_first_outcome,
)
from tests.app.api.test_uploads import (  # noqa: F401
    test_of_two_parallel_parts_one_is_kept,
    test_part_with_the_wrong_digest_is_taken_back,
    test_upload_arrives_in_parts,
)
from tests.app.services.test_housekeeping import test_expired_uploads_go_with_their_parts  # noqa: F401
from tests.stand_in.postgresql import serving


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with serving() as url:
        database = Database(url)
        upgrade(database)
        database.close()
        yield url


@pytest.fixture
def settings(tmp_path: Path, postgresql: str) -> Settings:
    engine = create_engine(postgresql.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())
    engine.dispose()
    return Settings(data_dir=tmp_path, blob_url="memory:///", database_url=postgresql)
