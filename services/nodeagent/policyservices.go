package nodeagent

import (
	"context"

	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// A backend that is no pod (an API server, a database outside) gets its packets from the
// node's kernel, past br0: no policy would be asked. So policies are asked where a pod
// asks the service, and must know which of them have such backends. toldEngine tells
// the state of them first, and its engine then.
type toldEngine struct {
	proxy.Engine
	tell func(whole bool, changed map[proxy.Key]*proxy.Service)
}

// telling has an engine's maker make engines that tell.
func telling(make svcsync.Maker, state *intent.State, queue func(intent.Change)) svcsync.Maker {
	return func(n proxy.Node) (proxy.Engine, error) {
		engine, err := make(n)
		if err != nil {
			return nil, err
		}
		return &toldEngine{engine, func(whole bool, changed map[proxy.Key]*proxy.Service) {
			ports := map[string]*intent.OutsideService{}
			for key, s := range changed {
				ports[key.String()+"/"+string(key.Protocol)] = outsideOf(s)
			}
			queue(state.SetOutsideServices(whole, ports))
		}}, nil
	}
}

// Sync is the engine's call.
func (e *toldEngine) Sync(ctx context.Context, all proxy.State) (proxy.Changes, error) {
	changed := make(map[proxy.Key]*proxy.Service, len(all))
	for key, s := range all {
		changed[key] = &s
	}
	e.tell(true, changed)
	return e.Engine.Sync(ctx, all)
}

// Apply is the engine's call.
func (e *toldEngine) Apply(ctx context.Context, changes ...proxy.Change) error {
	changed := make(map[proxy.Key]*proxy.Service, len(changes))
	for _, c := range changes {
		changed[c.Key] = c.Service
	}
	e.tell(false, changed)
	return e.Engine.Apply(ctx, changes...)
}

// outsideOf is what of a service port can be no pod; nil if there is none such. The
// state says which addresses are pods'.
func outsideOf(s *proxy.Service) *intent.OutsideService {
	if s == nil {
		return nil
	}
	o := &intent.OutsideService{ClusterIPs: s.ClusterIPs, Port: pipeline.ServicePort{Protocol: pipeline.Protocol(s.Protocol), Port: s.Port}}
	for _, b := range s.ClusterBackends {
		o.Backends = append(o.Backends, intent.OutsideBackend{Addr: b.Addr, Port: b.Port})
	}
	return o
}
