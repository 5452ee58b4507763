"""pymoo operators for genomes."""
