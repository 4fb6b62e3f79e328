"""The guide's checker, unchanged. Its names come from what an application imports above it."""

# fmt: off
import requests
from nexus_health import HealthChecker


class CustomHealthChecker(HealthChecker):
    def check_database_health(self) -> dict:
        """Check database connectivity"""
        try:
            # Test database connection
            self.db_client.ping()
            return {"status": "healthy", "latency": "5ms"}
        except Exception as e:
            return {"status": "unhealthy", "error": str(e)}

    def check_external_services(self) -> dict:
        """Check external service dependencies"""
        services = {}

        for service_name, service_url in self.external_services.items():
            try:
                response = requests.get(f"{service_url}/health", timeout=5)
                services[service_name] = {
                    "status": "healthy" if response.status_code == 200 else "unhealthy",
                    "response_time": response.elapsed.total_seconds()
                }
            except Exception as e:
                services[service_name] = {
                    "status": "unhealthy",
                    "error": str(e)
                }

        return services
