"""What every service needs: errors, settings, logging, life cycle, RPC, clock."""
