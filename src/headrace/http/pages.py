"""stub"""
from typing import Any
class Pages:
    def __init__(self, *a: Any) -> None: self.first = None
