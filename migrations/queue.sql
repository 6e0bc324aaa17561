-- What the hardened queue adds to Procrastinate's schema (erp_service/queue).

CREATE TABLE queue_workers (
    worker_id bigint PRIMARY KEY REFERENCES procrastinate_workers ON DELETE CASCADE,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamp with time zone NOT NULL DEFAULT now(),
    draining boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE queue_workers IS 'where each worker runs, and whether it was asked to stop';

CREATE TABLE queue_deaths (
    job_id bigint PRIMARY KEY REFERENCES procrastinate_jobs ON DELETE CASCADE,
    deaths integer NOT NULL CONSTRAINT queue_deaths_positive CHECK (deaths > 0),
    last_reason text NOT NULL CONSTRAINT queue_deaths_reason CHECK (last_reason IN ('gone', 'silent')),
    last_worker_id bigint,
    last_at timestamp with time zone NOT NULL DEFAULT now()
);
COMMENT ON TABLE queue_deaths IS 'how often a worker died or fell silent under a job; too often, and the job is failed';
