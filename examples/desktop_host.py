"""A host application with the training dialog in its menu, as in Tools > Train Model...

Run it with: python examples/desktop_host.py
It needs the extra ``desktop``: pip install 'maskwright[desktop]'
"""

from __future__ import annotations

import sys
from typing import Any

from PySide6.QtWidgets import QApplication, QLabel, QMainWindow

from maskwright.desktop import TrainConfigDialog

CONFIG: dict[str, Any] = {"architecture": "U-Net", "encoder": "resnet34", "encoder_weights": None, "num_epochs": 50}
PATHS = {"images_dir": "", "masks_dir": "", "split_dir": "", "checkpoint_dir": "outputs"}  # "": to be chosen there


class Annotator(QMainWindow):
    """Stands for the program in which masks are painted."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("Annotator")
        self.setCentralWidget(QLabel("Tools > Train Model..."))
        self.train_dialog: TrainConfigDialog | None = None
        menu = self.menuBar().addMenu("&Tools")
        menu.addAction("&Train Model...", self._on_train_model)

    def _on_train_model(self) -> None:
        """Open the dialog beside the window; ``TrainConfigDialog(CONFIG, PATHS).exec_()`` would wait for it."""
        dialog = TrainConfigDialog(CONFIG, PATHS, parent=self)
        dialog.training_completed.connect(self._use_model)
        dialog.training_failed.connect(lambda why: self.statusBar().showMessage(why))
        dialog.show()
        self.train_dialog = dialog

    def _use_model(self, outcome: dict[str, Any]) -> None:
        self.statusBar().showMessage(f"Trained: {outcome['model'] or 'no model yet'}")


def main() -> int:
    """Show the program until it is closed."""
    application = QApplication.instance() or QApplication(sys.argv[:1])
    window = Annotator()
    window.show()
    return int(application.exec())


if __name__ == "__main__":
    sys.exit(main())
