// Package idle lets the first packets to idled services wait until the services
// have endpoints.
//
// An idled service has nobody to answer. Its packets are handed to this process by
// the kernel, before connection tracking and before any address is translated, and
// nothing is decided about them: the kernel keeps them meanwhile. The need for pods
// is reported. Once the service engine has programmed endpoints, the packets go on
// as if they had just arrived. So the client's address, the network policies and the
// connection itself are what they would have been, and nothing is proxied.
//
// It owns the chains DAMASK-IDLE and DAMASK-IDLE-HOLD of iptables' table raw, the
// jumps to them from PREROUTING and OUTPUT, and one netfilter queue. The chains are
// there only while a service is idled. It promises:
//
//   - What waits is bounded, per service, in all and in time; what is beyond is
//     dropped, as on any network: TCP clients repeat.
//   - A packet to an idled service never leaves the node untranslated, nor is it
//     rejected. Also when this process is away: then the kernel drops it.
//   - A start takes over rules that are there: they are compared, never flushed.
//     Others' rules are never touched.
//   - A change of rules is one transaction of iptables, whatever it contains.
//
// It must not know what makes a service idled, nor how pods are started, nor program
// any backend.
package idle
