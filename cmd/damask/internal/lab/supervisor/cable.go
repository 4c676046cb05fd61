package supervisor

import (
	"context"
	"fmt"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// Unplug pulls a node's cable out.
func (s *service) Unplug(_ context.Context, r *labv1.UnplugRequest) (*labv1.UnplugResponse, error) {
	if err := s.setPlugged(r.GetNode(), false); err != nil {
		return nil, err
	}
	return &labv1.UnplugResponse{}, nil
}

// Plug puts a node's cable in again.
func (s *service) Plug(_ context.Context, r *labv1.PlugRequest) (*labv1.PlugResponse, error) {
	if err := s.setPlugged(r.GetNode(), true); err != nil {
		return nil, err
	}
	return &labv1.PlugResponse{}, nil
}

func (s *service) setPlugged(name string, plugged bool) error {
	if err := s.ready(); err != nil {
		return err
	}
	n := s.lab.node(name)
	if n == nil {
		return refusal(fmt.Errorf("%q: %w", name, errNoNode))
	}
	if err := n.Machine.SetPlugged(plugged); err != nil {
		return refusal(fmt.Errorf("the cable of node %s: %w", name, err))
	}
	return nil
}
