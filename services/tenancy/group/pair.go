package group

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/selector"
)

// Pair selects pods: those that Pods selects, in one namespace or in those that
// are selected. The zero Pair is all pods.
type Pair struct {
	// Namespace is the one namespace. If it is empty, Namespaces counts.
	Namespace  string
	Namespaces selector.Selector
	Pods       selector.Selector
}

// String is the pair in words; equal text means equal pairs.
func (p Pair) String() string { return p.scope() + "; pods " + orAll(p.Pods) }

func (p Pair) scope() string {
	if p.Namespace != "" {
		return "namespace " + p.Namespace
	}
	return "namespaces " + orAll(p.Namespaces)
}

func orAll(s selector.Selector) string {
	if s.Empty() {
		return "all"
	}
	return "with " + s.String()
}

// Kind is what a group is used for.
type Kind uint8

// Kinds of use.
const (
	Subject   Kind = iota + 1 // To know the pods: policies apply to them. Nothing is handed out.
	Addresses                 // To know their addresses.
	Ports                     // To know their addresses and what a port's name means at them.
)

// Use is a pair and what it is used for.
type Use struct {
	Kind Kind
	Pair Pair
	// Port is the name, for Ports.
	Port policy.PortName
}

// ID answers the group's id, the same for ever. Uses of one pair for different
// kinds have different ids.
func (u Use) ID() policy.GroupID {
	text := u.Pair.String()
	switch u.Kind {
	case Subject:
		text = "subject " + text
	case Ports:
		text += "; port " + u.Port.Protocol.String() + " " + u.Port.Name
	}
	// 80 bits: a million groups collide with a probability of one in 10¹².
	sum := sha256.Sum256([]byte(text))
	return policy.GroupID(hex.EncodeToString(sum[:10]))
}
