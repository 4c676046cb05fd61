package controlplane

import (
	"fmt"

	"github.com/damask-sdn/damask/internal/identity"
)

// TLSBlock is the "tls" block of a configuration file.
func TLSBlock(files identity.Files) string {
	return fmt.Sprintf("tls:\n  certificate: %s\n  key: %s\n  ca: %s\n  trustDomain: %s\n",
		files.Certificate, files.Key, files.CA, files.TrustDomain)
}

// natsConfig is the configuration of one NATS server.
func natsConfig(config Config, _ *Plane, replica int, files identity.Files) string {
	hosts := config.Topology.Control[:config.Topology.Replicas.NATS]
	text := fmt.Sprintf("name: nats-%d\nstoreDir: %s\n", replica+1, config.Dir.Path("stores", fmt.Sprintf("nats-%d", replica+1))) +
		// A lab's machines lose power when the host does, and then the lab is gone.
		"sync: periodic\n" +
		fmt.Sprintf("listen: %s\nmetrics: %s\n", address(hosts[replica], natsPort), address(hosts[replica], natsMetricsPort)) +
		TLSBlock(files)
	if len(hosts) == 1 {
		return text
	}
	var routes []string
	for _, host := range hosts {
		routes = append(routes, address(host, natsRoutePort))
	}
	return text + fmt.Sprintf("cluster:\n  name: lab\n  listen: %s\n  routes: %s\n", address(hosts[replica], natsRoutePort), List(routes))
}

// kubernetes is the section of a service that follows an API server's objects.
func (c Config) kubernetes(service string) string {
	kubeconfig, follows := c.Kubeconfigs[service]
	if !follows {
		return ""
	}
	return fmt.Sprintf("kubernetes: {enabled: true, kubeconfig: %q, cluster: %q}\n", kubeconfig, c.Topology.Kubernetes.Cluster)
}

// ipamConfig is the configuration of one replica of ipam.
func ipamConfig(config Config, p *Plane, replica int, files identity.Files) string {
	return serviceConfig(ipamPort)(config, p, replica, files) + config.kubernetes("ipam")
}

// tenancyConfig is the configuration of one replica of tenancy, which asks ipam
// which nodes there are.
func tenancyConfig(config Config, p *Plane, replica int, files identity.Files) string {
	return serviceConfig(tenancyPort)(config, p, replica, files) + config.kubernetes("tenancy") +
		fmt.Sprintf("ipam: {servers: %s}\n", List(p.Service("ipam").Addresses))
}

// servicelbConfig is the configuration of one replica of servicelb: ipam knows the
// service network, and tenancy the pods that endpoints follow.
func servicelbConfig(config Config, p *Plane, replica int, files identity.Files) string {
	// Where there is Kubernetes its EndpointSlices follow the pods.
	selectors := config.Topology.Kubernetes == nil
	return serviceConfig(servicelbPort)(config, p, replica, files) + config.kubernetes("servicelb") +
		fmt.Sprintf("loadBalancerIPs: %s\nselectors: %t\nipam: {servers: %s}\ntenancy: {servers: %s}\n",
			List([]string{config.Topology.LoadBalancerIPs.String()}), selectors, List(p.Service("ipam").Addresses), List(p.Service("tenancy").Addresses))
}

// egressConfig is the configuration of one replica of egress: ipam knows the nodes,
// and tenancy the VNIDs and pods.
func egressConfig(config Config, p *Plane, replica int, files identity.Files) string {
	servers := []string{nobody}
	if len(config.Topology.DNSServers) > 0 {
		servers = nil
		for _, server := range config.Topology.DNSServers {
			servers = append(servers, server.String())
		}
	}
	return serviceConfig(egressPort)(config, p, replica, files) + config.kubernetes("egress") +
		fmt.Sprintf("ipam: {servers: %s}\ntenancy: {servers: %s}\ndns: {servers: %s}\n",
			List(p.Service("ipam").Addresses), List(p.Service("tenancy").Addresses), List(servers))
}

// nobody is a DNS server that there is not: those that the machine has are not in the lab.
const nobody = "127.0.0.1:53"

// serviceConfig is the configuration of one replica of a control service.
func serviceConfig(port int) func(Config, *Plane, int, identity.Files) string {
	return func(config Config, p *Plane, replica int, files identity.Files) string {
		host := config.Topology.Control[replica]
		return fmt.Sprintf("listen: %s\nmetrics: %s\n", address(host, port), address(host, port+metricsOffset)) +
			TLSBlock(files) +
			fmt.Sprintf("nats:\n  servers: %s\n  replicas: %d\n", List(p.NATSURLs()), config.Topology.Replicas.NATS)
	}
}
