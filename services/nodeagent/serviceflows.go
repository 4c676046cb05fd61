package nodeagent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/serviceview"
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
		service := intent.Service{Namespace: o.Service.Namespace, Name: o.Service.Service, ClusterIPs: o.ClusterIPs}
		for _, p := range o.Ports {
			service.Ports = append(service.Ports, pipeline.ServicePort{Protocol: pipeline.Protocol(p.Protocol), Port: p.Port})
		}
		f.note(f.state.SetService(service))
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

func (f *serviceFlows) note(c intent.Change) {
	for _, owner := range c.Owners {
		f.unsent[owner] = true
	}
}
