package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// readPorts reads ports in Kubernetes' form: {"name": "http", "containerPort":
// 8080, "protocol": "TCP"}. No convention of CNI's knows them, so a field that is
// none of these is a mistake, and refused. What the fields may hold the agent
// decides.
func readPorts(list []json.RawMessage, wrong *problems) []*cniv1.ContainerPort {
	var ports []*cniv1.ContainerPort
	for i, raw := range list {
		field := fmt.Sprintf("args.cni.ports[%d]", i)
		var given struct {
			Name          string `json:"name"`
			ContainerPort uint32 `json:"containerPort"`
			Protocol      string `json:"protocol"`
		}
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&given); err != nil {
			wrong.addf("%s: %s", field, jsonReason(err))
			continue
		}
		protocol, known := protocolOf(given.Protocol)
		if !known {
			wrong.addf("%s.protocol: %q is not TCP, UDP or SCTP", field, given.Protocol)
		}
		if given.ContainerPort == 0 {
			wrong.addf("%s.containerPort: is required", field)
		}
		ports = append(ports, &cniv1.ContainerPort{Name: given.Name, ContainerPort: given.ContainerPort, Protocol: protocol})
	}
	return ports
}

// protocolOf reads a protocol by Kubernetes' name; none is TCP.
func protocolOf(name string) (cniv1.Protocol, bool) {
	switch name {
	case "", "TCP":
		return cniv1.Protocol_PROTOCOL_TCP, true
	case "UDP":
		return cniv1.Protocol_PROTOCOL_UDP, true
	case "SCTP":
		return cniv1.Protocol_PROTOCOL_SCTP, true
	}
	return cniv1.Protocol_PROTOCOL_UNSPECIFIED, false
}

// portMapping is an entry of the capability portMappings. Runtimes write protocols in
// small letters, and 0 for a port that no host port leads to.
type portMapping struct {
	HostPort      uint32 `json:"hostPort"`
	ContainerPort uint32 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// bandwidth is the capability of that name, in bits and bits a second. What the numbers may be
// the agent decides.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// readHostPorts reads the capability portMappings. What the numbers and addresses may
// be the agent decides.
func readHostPorts(list []portMapping, wrong *problems) []*cniv1.HostPort {
	var ports []*cniv1.HostPort
	for i, m := range list {
		if m.HostPort == 0 {
			continue
		}
		protocol, known := protocolOf(strings.ToUpper(m.Protocol))
		if !known {
			wrong.addf("runtimeConfig.portMappings[%d].protocol: %q is not tcp, udp or sctp", i, m.Protocol)
		}
		ports = append(ports, &cniv1.HostPort{HostIp: m.HostIP, HostPort: m.HostPort, ContainerPort: m.ContainerPort, Protocol: protocol})
	}
	return ports
}
