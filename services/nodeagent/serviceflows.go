package nodeagent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/damask-sdn/damask/internal/serviceview"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// serviceFlows puts services into the state, and their flows into the switch. The
// loop of svcsync alone calls it.
type serviceFlows struct {
	state   *intent.State
	program func(context.Context, intent.Change) error
	// unsent are the owners of flows that the switch did not take. The state has them
	// already, so that it alone would not know that something is to be sent.
	unsent map[string]bool
}

// Open is svcsync's call.
func (f *serviceFlows) Open(ctx context.Context, opened []svcsync.Opening, gone []serviceview.Name) error {
	for _, o := range opened {
		f.note(f.state.SetService(intent.Service{
			Namespace: o.Service.Namespace, Name: o.Service.Service,
			ClusterIPs: o.ClusterIPs, Ports: switchPorts(o.Ports), NodePorts: switchPorts(o.NodePorts),
		}))
	}
	for _, name := range gone {
		f.note(f.state.DeleteService(name.Namespace, name.Service))
	}
	if len(f.state.Missing()) > 0 {
		return svcsync.ErrSwitchAway // whether there are flows for services is not known
	}
	if len(f.unsent) == 0 {
		return nil
	}
	err := f.program(ctx, intent.Change{Owners: slices.Sorted(maps.Keys(f.unsent))})
	switch {
	case errors.Is(err, intent.ErrNotStarted):
		return svcsync.ErrSwitchAway
	case err == nil:
		clear(f.unsent)
	}
	return err
}

func switchPorts(ports []svcsync.OpenPort) []pipeline.ServicePort {
	var all []pipeline.ServicePort
	for _, p := range ports {
		all = append(all, pipeline.ServicePort{Protocol: pipeline.Protocol(p.Protocol), Port: p.Port})
	}
	return all
}

func (f *serviceFlows) note(c intent.Change) {
	for _, owner := range c.Owners {
		f.unsent[owner] = true
	}
}

// resolving bounds how long the first comparison of flows waits for the services that
// the node began with, and then for the VNIDs of their namespaces. All of them are in
// the caches, as a rule.
const resolving = 3 * time.Second

// namespaceFinder is the part of a follower that knows what exists.
type namespaceFinder interface {
	Find(ctx context.Context, name string) (*tenancyv1.NetNamespace, bool, error)
}

// resolve waits until the state has the services that the agent begins with, and the
// VNIDs that their flows need. Compared before, the switch would lose these flows, and
// get them back a moment later.
func (s *services) resolve(ctx context.Context) {
	if network, known := s.state.Network(); !known || !network.Node.Mode.Tenants() {
		return // services have no flows of their own
	}
	begun, cancel := context.WithTimeout(ctx, resolving)
	defer cancel()
	select {
	case <-s.Begun():
	case <-begun.Done():
		return
	}
	wanted := s.state.ServiceNamespaces()
	s.interest.servicesWant(wanted)
	found, cancel := context.WithTimeout(ctx, resolving)
	defer cancel()
	for _, namespace := range wanted {
		_, exists, err := s.namespaces.Find(found, namespace)
		if err == nil && exists {
			_, err = s.state.AwaitVNID(found, namespace)
		}
		if err != nil {
			return // tenancy does not answer; the flows come when it does
		}
	}
}
