"""From a folder with a model to an export in OpenVINO's format, and OpenVINO's options."""
