module github.com/damask-sdn/damask/services/egress

go 1.26.7

replace github.com/damask-sdn/damask/proto => ../../proto

replace github.com/damask-sdn/damask/internal => ../../internal
