"""For authors of adapters: suites that say what each port promises, a lake in memory, and the simulator of the seam.

A suite is a plain class of tests. Subclass it in a test file of yours, say how your adapter is opened, and let pytest
collect it::

    from headrace.testing.store import StoreSuite

    class TestMyStore(StoreSuite):
        def open(self, place):
            return MyStore(keyspace=place.name)
"""
