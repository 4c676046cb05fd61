package nodeagent

import (
	"errors"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/healthport"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// healthPorts answers load balancers for svcsync.
type healthPorts struct{ ports *healthport.Ports }

// Serve is svcsync's call.
func (h healthPorts) Serve(ports map[uint16]svcsync.Health) map[serviceview.Name]error {
	want := make(map[uint16]healthport.Health, len(ports))
	for number, p := range ports {
		want[number] = healthport.Health{Namespace: p.Service.Namespace, Name: p.Service.Service, Local: p.LocalReady}
	}
	failed := map[serviceview.Name]error{}
	for _, err := range portErrors(h.ports.Set(want)) {
		failed[serviceview.Name{Namespace: err.Namespace, Service: err.Name}] = err
	}
	return failed
}

// Healthy is svcsync's call.
func (h healthPorts) Healthy(healthy bool) { h.ports.SetProxyHealthy(healthy) }

// portErrors takes a joined error apart.
func portErrors(err error) (all []*healthport.PortError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, each := range joined.Unwrap() {
			if one, ok := errors.AsType[*healthport.PortError](each); ok {
				all = append(all, one)
			}
		}
	}
	return all
}
