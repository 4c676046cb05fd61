package server

import (
	"context"
	"errors"
	"time"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// PodSource knows of pods what policies ask for and agents are not told.
type PodSource interface {
	// Describe puts the labels and ports of a reported pod into the report. It fails with
	// registry.UnknownPodError, at once or after waiting for the pod that long, and with
	// registry.HostNetworkError.
	Describe(ctx context.Context, report *tenancyv1.Pod, patience time.Duration) error
}

const (
	// podPatience is how long a pod is waited for at most: what made the runtime start it
	// is on its way here too.
	podPatience = 5 * time.Second
	// answerTime is left of the caller's time to answer it.
	answerTime = 500 * time.Millisecond
)

// describe completes a report, so that no policy is resolved for a pod without its
// labels. The answered error is a status.
func (s *pods) describe(ctx context.Context, report *tenancyv1.Pod) error {
	err := s.look(ctx, report, 0)
	var unknown *registry.UnknownPodError
	if errors.As(err, &unknown) {
		patience := podPatience
		if end, ok := ctx.Deadline(); ok {
			patience = min(patience, time.Until(end)-answerTime)
		}
		err = s.look(ctx, report, patience)
	}
	if err != nil {
		return s.fail.status(err)
	}
	return described(report)
}

// describeAll completes the reports of a node's pods as far as they are known. The
// others are left out, and named by the error unknown: the agent reports again until
// they are known, or gone.
func (s *pods) describeAll(ctx context.Context, reports []*tenancyv1.Pod) (known []*tenancyv1.Pod, unknown, failed error) {
	var missing *registry.UnknownPodError
	var host *registry.HostNetworkError
	for _, report := range reports {
		err := s.look(ctx, report, 0)
		switch {
		case errors.As(err, &missing):
			unknown = errors.Join(unknown, err)
			continue
		case errors.As(err, &host):
			continue
		case err != nil:
			return nil, nil, s.fail.status(err)
		}
		if err := described(report); err != nil {
			return nil, nil, err
		}
		known = append(known, report)
	}
	return known, unknown, nil
}

// look completes a report by what the source says, or, where it has not heard of the
// pod, by what it said before.
func (s *pods) look(ctx context.Context, report *tenancyv1.Pod, patience time.Duration) error {
	if s.source == nil {
		return nil
	}
	err := s.source.Describe(ctx, report, patience)
	var unknown *registry.UnknownPodError
	if errors.As(err, &unknown) && s.registry.Recall(report) {
		return nil
	}
	return err
}

// described checks what the source said as if the agent had.
func described(report *tenancyv1.Pod) error {
	var v rpcerr.Violations
	checkPod(&v, "pod", report)
	return v.Err(Domain)
}
