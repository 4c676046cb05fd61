package supervisor

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/controlplane"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/pod"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// GetLab answers the state of the lab.
func (s *service) GetLab(context.Context, *labv1.GetLabRequest) (*labv1.GetLabResponse, error) {
	l := s.lab
	lab := &labv1.Lab{
		Name:              l.config.Dir.Name(),
		Directory:         string(l.config.Dir),
		Pid:               uint32(l.pid),
		Ready:             l.up.Load(),
		StartTime:         timestamppb.New(l.started),
		Underlay:          l.topology.Underlay.String(),
		OperatorDirectory: l.config.Dir.Identity(OperatorIdentity),
		TrustDomain:       trustDomain,
	}
	if !lab.GetReady() {
		return &labv1.GetLabResponse{Lab: lab}, nil
	}
	lab.Control = &labv1.Host{Name: controlplane.Host, Ip: l.topology.Control[0].String(), Netns: enter.NetPath(controlplane.Host)}
	for _, h := range l.outside {
		lab.Outside = append(lab.Outside, &labv1.Host{Name: h.name, Ip: h.ip.String(), Netns: enter.NetPath(h.netns())})
	}
	for _, service := range l.plane.Services {
		lab.Services = append(lab.Services, &labv1.Service{Name: service.Name, Addresses: service.Addresses, Processes: processes(service.Replicas)})
	}
	subnets := l.routes.known()
	for _, n := range l.nodes {
		pid := n.Machine.PID()
		lab.Nodes = append(lab.Nodes, &labv1.Node{
			Name: n.Name(), Ip: n.IP().String(), Subnet: subnets[n.Name()], Powered: pid != 0, Pid: uint32(pid), Unplugged: n.Machine.Unplugged(),
			Disk: n.Machine.Disk(), AgentAddress: n.AgentAddress(), Processes: processes(n.Daemons()),
		})
	}
	for _, p := range l.pods.List() {
		lab.Pods = append(lab.Pods, podMessage(p))
	}
	return &labv1.GetLabResponse{Lab: lab}, nil
}

func processes(daemons []*process.Daemon) []*labv1.Process {
	var all []*labv1.Process
	for _, d := range daemons {
		now := d.Snapshot()
		message := &labv1.Process{
			Name: d.Name, Pid: uint32(now.PID), Ending: now.Ending, Starts: uint32(now.Starts), Log: d.Log,
			State: map[process.State]labv1.ProcessState{
				process.NotStarted: labv1.ProcessState_PROCESS_STATE_NOT_STARTED,
				process.Running:    labv1.ProcessState_PROCESS_STATE_RUNNING,
				process.Exited:     labv1.ProcessState_PROCESS_STATE_EXITED,
				process.Killed:     labv1.ProcessState_PROCESS_STATE_KILLED,
			}[now.State],
		}
		if !now.Started.IsZero() {
			message.StartTime = timestamppb.New(now.Started)
		}
		all = append(all, message)
	}
	return all
}

func podMessage(p pod.Pod) *labv1.Pod {
	message := &labv1.Pod{
		Namespace: p.Namespace, Name: p.Name, Node: p.Node.Name(), Ips: p.IPs, Mac: p.MAC, Labels: p.Labels,
		SandboxId: p.Sandbox, WishedIp: p.IP, WishedOfport: p.OFPort, Attached: p.Attached, Error: p.Error,
	}
	if p.Sandbox != "" {
		message.Netns = p.Netns()
	}
	if message.GetAttached() && p.Node.Machine.PID() == 0 {
		message.Attached, message.Ips, message.Mac, message.Error = false, nil, "", "its node is off"
	}
	return message
}
