"""What tests share: servers, pipelines, logs and sinks by hand."""
