package flowsync

import (
	"context"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// An InstalledFlow is a flow of the switch and whose it is.
type InstalledFlow struct {
	openflow.InstalledFlow
	Owner string // "" when its cookie is no living owner's.
}

// Dump reads all flows of the switch, in the order of Key.Compare.
func (s *Syncer) Dump(ctx context.Context) ([]InstalledFlow, error) {
	conn, err := s.connection(ctx)
	if err != nil {
		return nil, err
	}
	var flows []InstalledFlow
	err = conn.EachFlow(ctx, func(f openflow.InstalledFlow) {
		f.Flow = f.Flow.Clone()
		flows = append(flows, InstalledFlow{InstalledFlow: f})
	})
	if err != nil {
		return nil, err
	}
	names := s.names()
	for i := range flows {
		flows[i].Owner = names[flows[i].Cookie]
	}
	slices.SortFunc(flows, func(a, b InstalledFlow) int { return a.Key().Compare(b.Key()) })
	return flows, nil
}

// names maps cookies to their owners.
func (s *Syncer) names() map[uint64]string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	names := make(map[uint64]string, len(s.table.owners))
	for name, o := range s.table.owners {
		names[o.cookie] = name
	}
	return names
}
