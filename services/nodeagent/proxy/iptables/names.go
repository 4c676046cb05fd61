package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Fixed chains, named as kube-proxy names them: operators know them, and other
// programs (hostports of a CNI plugin) jump to KUBE-MARK-MASQ.
const (
	chainServices    = "KUBE-SERVICES"
	chainExternal    = "KUBE-EXTERNAL-SERVICES"
	chainNodePorts   = "KUBE-NODEPORTS"
	chainMarkMasq    = "KUBE-MARK-MASQ"
	chainPostrouting = "KUBE-POSTROUTING"
	chainForward     = "KUBE-FORWARD"
	chainFirewall    = "KUBE-PROXY-FIREWALL"
)

// Prefixes of the chains of one service port or one of its backends.
const (
	prefixService  = "KUBE-SVC-" // backends of cluster IPs
	prefixLocal    = "KUBE-SVL-" // backends of external addresses, where they differ
	prefixOwn      = "KUBE-OWN-" // backends of the node's own connections to external addresses, where they differ
	prefixExternal = "KUBE-EXT-" // what comes to external addresses
	prefixRanges   = "KUBE-FW-"  // load balancer addresses with source ranges
	prefixBackend  = "KUBE-SEP-" // one backend of one service port
)

// hashLength is how many characters of the hash a chain's name holds: with the prefix
// it stays below the 28 that iptables allows.
const hashLength = 16

// hashed is kube-proxy's way to a short name: base32 of SHA-256.
func hashed(prefix, text string) string {
	sum := sha256.Sum256([]byte(text))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:hashLength]
}

// identity is the text that names of a service port's chains are made from. The colon
// stands there also without a port name, and the protocol right behind it.
func identity(k proxy.Key) string {
	return title(k) + strings.ToLower(string(k.Protocol))
}

// title is how comments name a service port: "shop/web:http", "shop/web:".
func title(k proxy.Key) string { return k.Namespace + "/" + k.Name + ":" + k.PortName }

// serviceChain names the chain with a prefix of a service port.
func serviceChain(prefix string, k proxy.Key) string { return hashed(prefix, identity(k)) }

// backendChain names the chain of one backend of a service port.
func backendChain(k proxy.Key, backend netip.AddrPort) string {
	return hashed(prefixBackend, identity(k)+backend.String())
}
