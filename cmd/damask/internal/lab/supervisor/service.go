package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/controlplane"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/machine"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/node"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/pod"
	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// service answers LabService.
type service struct {
	labv1.UnsafeLabServiceServer

	lab *Supervisor
}

// ready refuses calls while the lab is being built.
func (s *service) ready() error {
	if !s.lab.up.Load() {
		return status.Error(codes.FailedPrecondition, "the lab is not up yet: `damask lab up` is still at work")
	}
	return nil
}

// refusal words an error for the person at the other end.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pod.ErrExists):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, pod.ErrNotFound), errors.Is(err, errNoTarget), errors.Is(err, errNoNode), errors.Is(err, node.ErrNoProcess):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, pod.ErrBusy), errors.Is(err, machine.ErrOff), errors.Is(err, errNotRunning):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

var (
	errNoTarget   = errors.New("the lab has no such node or service")
	errNoNode     = errors.New("the lab has no such node")
	errNotRunning = errors.New("it does not run")
)

// AddPod makes a pod.
func (s *service) AddPod(ctx context.Context, r *labv1.AddPodRequest) (*labv1.AddPodResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	if err := checkPod(r); err != nil {
		return nil, err
	}
	if s.lab.node(r.GetNode()) == nil {
		return nil, status.Errorf(codes.NotFound, "the lab has no node %q", r.GetNode())
	}
	wish := pod.Wish{
		Namespace: r.GetNamespace(), Name: r.GetName(), IP: r.GetIp(), OFPort: r.GetOfport(), Labels: r.GetLabels(),
		Annotations: r.GetAnnotations(), UID: r.GetUid(),
	}
	for _, p := range r.GetPorts() {
		wish.Ports = append(wish.Ports, node.ContainerPort{Name: p.GetName(), ContainerPort: p.GetContainerPort(), Protocol: p.GetProtocol()})
	}
	for _, p := range r.GetHostPorts() {
		wish.HostPorts = append(wish.HostPorts, node.HostPort{
			HostPort: p.GetHostPort(), ContainerPort: p.GetContainerPort(), Protocol: strings.ToLower(cmp.Or(p.GetProtocol(), "TCP")), HostIP: p.GetHostIp(),
		})
	}
	added, err := s.lab.addPod(ctx, r.GetNode(), wish)
	if err != nil {
		return nil, refusal(err)
	}
	return &labv1.AddPodResponse{Pod: podMessage(added.pod), NamespaceCreated: added.namespaceCreated, Netid: added.vnid}, nil
}

// checkPod refuses what can never be, with everything that is wrong.
func checkPod(r *labv1.AddPodRequest) error {
	var wrong []string
	if !syntax.Label.Fits(r.GetNamespace()) {
		wrong = append(wrong, fmt.Sprintf("namespace %q is not %s", r.GetNamespace(), syntax.Label.Words()))
	}
	if !syntax.Subdomain.Fits(r.GetName()) {
		wrong = append(wrong, fmt.Sprintf("name %q is not %s", r.GetName(), syntax.Subdomain.Words()))
	}
	for key, value := range r.GetLabels() {
		if reason := syntax.CheckLabel(key, value); reason != "" {
			wrong = append(wrong, fmt.Sprintf("label %s=%s: %s", key, value, reason))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return status.Error(codes.InvalidArgument, strings.Join(wrong, "; "))
}

// DeletePod removes a pod.
func (s *service) DeletePod(ctx context.Context, r *labv1.DeletePodRequest) (*labv1.DeletePodResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	if err := s.lab.pods.Delete(ctx, r.GetNamespace()+"/"+r.GetName()); err != nil {
		return nil, refusal(fmt.Errorf("delete pod %s/%s: %w", r.GetNamespace(), r.GetName(), err))
	}
	return &labv1.DeletePodResponse{}, nil
}

// addedPod is what addPod made.
type addedPod struct {
	pod              pod.Pod
	namespaceCreated bool
	vnid             uint32
}

// addPod makes a pod, and its namespace if there is none. While tenancy is away the
// namespace cannot be looked up, and with Kubernetes it is an object; the agent then decides,
// which may know it.
func (s *Supervisor) addPod(ctx context.Context, nodeName string, wish pod.Wish) (addedPod, error) {
	var added addedPod
	calls, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	if !s.onKubernetes() && s.tenancyRuns() {
		if added.vnid, added.namespaceCreated, err = s.plane.Operator.EnsureNamespace(calls, wish.Namespace); err != nil {
			return added, fmt.Errorf("namespace %s: %w", wish.Namespace, err)
		}
	}
	if added.pod, err = s.pods.Add(ctx, s.node(nodeName), wish); err != nil {
		return added, fmt.Errorf("add pod %s: %w", wish.Key(), err)
	}
	return added, nil
}

func (s *Supervisor) tenancyRuns() bool {
	for _, name := range []string{"nats", "tenancy"} {
		running := false
		for _, replica := range s.plane.Service(name).Replicas {
			running = running || replica.Running()
		}
		if !running {
			return false
		}
	}
	return true
}

func (s *Supervisor) node(name string) *node.Node {
	for _, n := range s.nodes {
		if n.Name() == name {
			return n
		}
	}
	return nil
}

// Kill sends a signal, or cuts the power of a node.
func (s *service) Kill(_ context.Context, r *labv1.KillRequest) (*labv1.KillResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	sig := unix.Signal(r.GetSignal())
	if sig == 0 {
		sig = unix.SIGKILL
	}
	if sig > 64 {
		return nil, status.Errorf(codes.InvalidArgument, "%d is not a signal", sig)
	}
	var done []string
	var err error
	if n := s.lab.node(r.GetTarget()); n != nil {
		done, err = s.lab.killOnNode(n, r.GetProcess(), sig)
	} else if service := s.lab.plane.Service(r.GetTarget()); service != nil {
		done, err = killService(service, r.GetProcess(), sig)
	} else {
		err = fmt.Errorf("%q: %w", r.GetTarget(), errNoTarget)
	}
	if err != nil {
		return nil, refusal(err)
	}
	return &labv1.KillResponse{Done: done}, nil
}

func (s *Supervisor) killOnNode(n *node.Node, process string, sig unix.Signal) ([]string, error) {
	if process != "" {
		if err := n.Kill(agentAlias(process), sig); err != nil {
			return nil, fmt.Errorf("kill %s on node %s: %w", process, n.Name(), err)
		}
		return []string{fmt.Sprintf("node %s: %s sent to %s", n.Name(), unix.SignalName(sig), process)}, nil
	}
	if err := n.Cut(); err != nil {
		return nil, fmt.Errorf("cut the power of node %s: %w", n.Name(), err)
	}
	s.pods.Off(n)
	return []string{fmt.Sprintf("node %s: power is off", n.Name())}, nil
}

// agentAlias allows the agent's program name for its short one.
func agentAlias(process string) string { return strings.TrimPrefix(process, "damask-") }

func killService(service *controlplane.Service, replica string, sig unix.Signal) ([]string, error) {
	var done []string
	known := false
	for _, d := range service.Replicas {
		if replica != "" && replica != d.Name {
			continue
		}
		known = true
		if !d.Running() && replica == "" {
			continue
		}
		if err := d.Kill(sig); err != nil {
			return done, err
		}
		done = append(done, fmt.Sprintf("service %s: %s sent to %s", service.Name, unix.SignalName(sig), d.Name))
	}
	switch {
	case !known:
		return nil, fmt.Errorf("%q: %w; the replicas of %s are %s-1 to %s-%d", replica, node.ErrNoProcess, service.Name, service.Name, service.Name, len(service.Replicas))
	case len(done) == 0:
		return nil, fmt.Errorf("service %s: %w", service.Name, errNotRunning)
	}
	return done, nil
}

// Start starts what does not run.
func (s *service) Start(ctx context.Context, r *labv1.StartRequest) (*labv1.StartResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	var done []string
	var err error
	if n := s.lab.node(r.GetTarget()); n != nil {
		done, err = s.lab.startOnNode(ctx, n, agentAlias(r.GetProcess()))
	} else if service := s.lab.plane.Service(r.GetTarget()); service != nil {
		done, err = s.lab.startService(ctx, service, r.GetProcess())
	} else {
		err = fmt.Errorf("%q: %w", r.GetTarget(), errNoTarget)
	}
	if err != nil {
		return nil, refusal(err)
	}
	if len(done) == 0 {
		done = []string{"everything runs already"}
	}
	return &labv1.StartResponse{Done: done}, nil
}

func (s *Supervisor) startService(ctx context.Context, service *controlplane.Service, replica string) ([]string, error) {
	if replica != "" && !strings.HasPrefix(replica, service.Name+"-") {
		return nil, fmt.Errorf("%q: %w of %s", replica, node.ErrNoProcess, service.Name)
	}
	names, err := s.plane.Start(ctx, service, replica)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, name := range names {
		done = append(done, fmt.Sprintf("service %s: started %s", service.Name, name))
	}
	return done, nil
}

// startOnNode starts one process of a node that is on, or all that the node lacks.
func (s *Supervisor) startOnNode(ctx context.Context, n *node.Node, process string) ([]string, error) {
	off := n.Machine.PID() == 0
	if process != "" && process != n.Machine.Database.Name && process != n.Machine.Switch.Name && process != n.Agent.Name {
		return nil, fmt.Errorf("%w %q on a node: there are ovsdb-server, ovs-vswitchd and nodeagent", node.ErrNoProcess, process)
	}
	if off && process != "" {
		return nil, fmt.Errorf("start %s on node %s: %w; `damask lab start --name %s %s` switches it on",
			process, n.Name(), machine.ErrOff, s.config.Dir.Name(), n.Name())
	}
	if off {
		s.pods.Off(n)
	}
	var done []string
	if process != n.Agent.Name {
		started, err := n.StartSystem(ctx, process)
		if err != nil {
			return nil, err
		}
		for _, name := range started {
			done = append(done, fmt.Sprintf("node %s: started %s", n.Name(), name))
		}
	}
	if process == "" || process == n.Agent.Name {
		started, err := n.StartAgent()
		if err != nil {
			return nil, err
		}
		if started {
			if err := n.AwaitReady(ctx, s.plane.Operator); err != nil {
				return nil, err
			}
			if err := n.Configure(); err != nil {
				return nil, err
			}
			if err := s.pods.Collect(ctx, n); err != nil {
				return nil, err
			}
			done = append(done, fmt.Sprintf("node %s: started %s", n.Name(), n.Agent.Name))
		}
	}
	if err := s.announce(); err != nil {
		return nil, err
	}
	if !off {
		return done, nil
	}
	count, err := s.pods.Restore(ctx, n)
	if err != nil {
		return nil, err
	}
	return append(done, fmt.Sprintf("node %s: %s again", n.Name(), plural(count, "pod"))), nil
}
