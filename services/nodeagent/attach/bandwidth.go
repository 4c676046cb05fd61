package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// Rates that can be wished for, in bits a second: Kubernetes' bounds for its annotations.
const (
	LeastRate = 1_000
	MostRate  = 1_000_000_000_000_000
)

// Pod names a pod: it may come back under its name with another UID.
type Pod struct{ Namespace, Name, UID string }

// SetBandwidth bounds the pod's attachments, from now on and after every restart. Idempotent;
// nil: as fast as it can be. A pod that is not attached is none of its concern: the one that
// tells of an attachment asks again. An agent that ends in between has bounded the pod or
// finds in Restore that it must.
func (s *Server) SetBandwidth(ctx context.Context, pod Pod, b *cniv1.Bandwidth) error {
	var errs []error
	for _, l := range s.Leases.List() {
		a := l.Attachment
		if !l.Attached || a.GetPodNamespace() != pod.Namespace || a.GetPodName() != pod.Name {
			continue
		}
		if uid := a.GetPodUid(); uid != "" && uid != pod.UID { // Not every runtime says it.
			continue
		}
		if sameBandwidth(a.GetBandwidth(), b) {
			continue
		}
		errs = append(errs, s.bound(ctx, lease.KeyOf(a), b))
	}
	return errors.Join(errs...)
}

// bound bounds one attachment. What it is to be comes first, and is taken back last, so that
// whoever comes after an end in between knows of every bound that is there.
func (s *Server) bound(ctx context.Context, key lease.Key, b *cniv1.Bandwidth) error {
	unlock, err := s.locks.lock(ctx, key.ContainerID)
	if err != nil {
		return fmt.Errorf("wait for a command on container %s: %w", key.ContainerID, err)
	}
	defer unlock()
	l, ok := s.Leases.Lookup(key)
	if !ok || !l.Attached {
		return nil // It went meanwhile.
	}
	a := proto.CloneOf(l.Attachment)
	a.Bandwidth = b
	if b != nil {
		if a, err = s.Leases.Amend(key, lease.Change{Bandwidth: b}); err != nil {
			return fmt.Errorf("bound pod %s/%s: %w", a.GetPodNamespace(), a.GetPodName(), err)
		}
	}
	if _, err = s.Links.EnsureBandwidth(ctx, podLink(a, Network{})); err != nil {
		return fmt.Errorf("bound pod %s/%s: %w", a.GetPodNamespace(), a.GetPodName(), err)
	}
	if b == nil {
		if a, err = s.Leases.Amend(key, lease.Change{Bandwidth: &cniv1.Bandwidth{}}); err != nil {
			return fmt.Errorf("bound pod %s/%s: %w", a.GetPodNamespace(), a.GetPodName(), err)
		}
	}
	s.log.Info("bandwidth of a pod changed", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(),
		"ingress_rate", b.GetIngressRate(), "egress_rate", b.GetEgressRate())
	// The port's marks, for when leases are lost.
	_, err = s.plug(ctx, a, false)
	return err
}

// RestoreBandwidth makes all attachments as fast as their leases say, and answers what differed:
// a switch that was started again has removed bounds. One without a bound has none: see bound.
// What cannot be repaired is logged, and left for the next time.
func (s *Server) RestoreBandwidth(ctx context.Context) []string {
	var all []string
	for _, l := range s.Leases.List() {
		if !l.Attached || l.Attachment.GetBandwidth() == nil {
			continue
		}
		repairs, err := s.rebound(ctx, lease.KeyOf(l.Attachment))
		if err != nil && ctx.Err() == nil {
			s.log.Warn("bandwidth of a pod not restored, trying again", "namespace", l.Attachment.GetPodNamespace(), "pod", l.Attachment.GetPodName(), "error", err)
		}
		all = append(all, repairs...)
	}
	return all
}

// rebound makes an attachment as fast as its lease says now.
func (s *Server) rebound(ctx context.Context, key lease.Key) ([]string, error) {
	unlock, err := s.locks.lock(ctx, key.ContainerID)
	if err != nil {
		return nil, fmt.Errorf("wait for a command on container %s: %w", key.ContainerID, err)
	}
	defer unlock()
	l, ok := s.Leases.Lookup(key)
	if !ok || !l.Attached || l.Attachment.GetBandwidth() == nil {
		return nil, nil // It went meanwhile.
	}
	return s.Links.EnsureBandwidth(ctx, podLink(l.Attachment, Network{}))
}

// sameBandwidth compares what is kept with what is wished; none is the same as nothing in it.
func sameBandwidth(a, b *cniv1.Bandwidth) bool {
	return a.GetIngressRate() == b.GetIngressRate() && a.GetIngressBurst() == b.GetIngressBurst() &&
		a.GetEgressRate() == b.GetEgressRate() && a.GetEgressBurst() == b.GetEgressBurst()
}

// bandwidthOf is the same, as package link wants it.
func bandwidthOf(b *cniv1.Bandwidth) link.Bandwidth {
	return link.Bandwidth{
		Ingress: link.Rate{BitsPerSecond: b.GetIngressRate(), Burst: b.GetIngressBurst()},
		Egress:  link.Rate{BitsPerSecond: b.GetEgressRate(), Burst: b.GetEgressBurst()},
	}
}

// bandwidth checks what a request wishes.
func (f *faults) bandwidth(b *cniv1.Bandwidth) {
	for _, d := range []struct {
		name        string
		rate, burst uint64
	}{{"ingress", b.GetIngressRate(), b.GetIngressBurst()}, {"egress", b.GetEgressRate(), b.GetEgressBurst()}} {
		switch {
		case d.rate == 0 && d.burst != 0:
			f.config = append(f.config, fmt.Sprintf("bandwidth.%s_burst: %d without a rate", d.name, d.burst))
		case d.rate != 0 && (d.rate < LeastRate || d.rate > MostRate):
			f.config = append(f.config, fmt.Sprintf("bandwidth.%s_rate: %d is not %d to %d bits a second", d.name, d.rate, LeastRate, MostRate))
		}
	}
}

// bandwidthMark is a bound as a port's mark has it.
type bandwidthMark struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

func bandwidthText(b *cniv1.Bandwidth) string {
	text, _ := json.Marshal(bandwidthMark{b.GetIngressRate(), b.GetIngressBurst(), b.GetEgressRate(), b.GetEgressBurst()}) // Numbers always can be.
	return string(text)
}

func parseBandwidth(text string) (*cniv1.Bandwidth, error) {
	if text == "" {
		return nil, nil
	}
	var m bandwidthMark
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, err
	}
	return &cniv1.Bandwidth{IngressRate: m.IngressRate, IngressBurst: m.IngressBurst, EgressRate: m.EgressRate, EgressBurst: m.EgressBurst}, nil
}
