"""Who serves what: workers and models, found where no supervisor says so."""
