"""Real servers for tests and trials, on loopback, without containers: `./dev services up kafka sftp`.

Tests take them as fixtures (`tests/services.py`), other programs as `with services.kafka(folder) as broker:`.
"""

from tools.services.cassandra import Node, Nodes, SecureNode, cassandra, cassandra3, cassandra_secure
from tools.services.kafka import Broker, Cluster, SecureBroker, kafka, kafka3, kafka_secure
from tools.services.postgres import Postgres, postgres
from tools.services.process import MissingError, Server, ServiceError, born, end, of, records, sweep
from tools.services.prometheus import Prometheus, prometheus, promtool
from tools.services.sftp import Sftp, sftp

__all__ = [
    "Broker",
    "Cluster",
    "MissingError",
    "Node",
    "Nodes",
    "Postgres",
    "Prometheus",
    "SecureBroker",
    "SecureNode",
    "Server",
    "ServiceError",
    "Sftp",
    "born",
    "cassandra",
    "cassandra3",
    "cassandra_secure",
    "end",
    "kafka",
    "kafka3",
    "kafka_secure",
    "of",
    "postgres",
    "prometheus",
    "promtool",
    "records",
    "sftp",
    "sweep",
]
