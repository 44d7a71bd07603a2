# SPDX-License-Identifier: MIT
# fish completion for thawctl(1)

function __thawctl_vms
    thawctl list --no-legend --no-pager --no-ask-password 2>/dev/null | string split -f 1 ' '
end

function __thawctl_share_names
    thawctl share list --no-legend --no-pager --no-ask-password 2>/dev/null | string split -f 1 ' '
end

function __thawctl_images
    thawctl image list --no-legend --no-pager 2>/dev/null | string split -f 1 ' '
end

function __thawctl_jobs
    thawctl jobs --no-legend --no-pager --no-ask-password 2>/dev/null | string trim | string split -f 1 ' '
end

set -l verbs restore stop snapshot list jobs sessions top metrics status complete quiesce prefetch cancel policy pause resume doctor image share cache df reserve
set -l share_verbs add open list status remove raise-limit drop-caches
set -l image_verbs import seal record verify list show rm clean
set -l no_verb "not __fish_seen_subcommand_from $verbs"
set -l in_image "__fish_seen_subcommand_from image; and not __fish_seen_subcommand_from $image_verbs"

complete -c thawctl -f
complete -c thawctl -l json -x -a 'short pretty off' -d 'Print JSON'
complete -c thawctl -l no-pager -d 'Do not use a pager'
complete -c thawctl -l no-legend -d 'No headers and no closing lines'
complete -c thawctl -l no-ask-password -d 'Never ask for a password'
complete -c thawctl -l image-root -r -F -d 'Folder of the images'
complete -c thawctl -l version -d 'Print the version'
complete -c thawctl -s h -l help -d 'Print help'

complete -c thawctl -n "$no_verb" -a restore -d 'Restore a VM from an image'
complete -c thawctl -n "$no_verb" -a stop -d 'Stop a VM'
complete -c thawctl -n "$no_verb" -a list -d 'List VMs'
complete -c thawctl -n "$no_verb" -a jobs -d 'List jobs at work'
complete -c thawctl -n "$no_verb" -a sessions -d 'List pager sessions'
complete -c thawctl -n "$no_verb" -a snapshot -d 'Make an image of a VM'
complete -c thawctl -n "$no_verb" -a top -d 'Show what the pager does, live'
complete -c thawctl -n "$no_verb" -a metrics -d 'Print OpenMetrics text'
complete -c thawctl -n "$no_verb" -a complete -d 'Load all memory of a VM'
complete -c thawctl -n "$no_verb" -a quiesce -d 'Have the pager finish what is under way'
complete -c thawctl -n "$no_verb" -a prefetch -d 'Change what is loaded ahead'
complete -c thawctl -n "$no_verb" -a status -d 'Show one VM, or the daemons'
complete -c thawctl -n "$no_verb" -a cancel -d 'Cancel a job'
complete -c thawctl -n "$no_verb" -a policy -d 'Show or change the circuit breakers'
complete -c thawctl -n "$no_verb" -a pause -d 'Pause a running VM'
complete -c thawctl -n "$no_verb" -a resume -d 'Let a paused VM run again'
complete -c thawctl -n "$no_verb" -a doctor -d 'Check this host'
complete -c thawctl -n "$no_verb" -a image -d 'Manage images'
complete -c thawctl -n "$no_verb" -a share -d 'Manage virtiofs shares'
complete -c thawctl -n "$no_verb" -a cache -d 'Fill caches in guests'
complete -c thawctl -n "$no_verb" -a df -d 'Show guarded volumes'
complete -c thawctl -n "$no_verb" -a reserve -d 'Space held back for a full disk'
complete -c thawctl -n '__fish_seen_subcommand_from df' -l watch -d 'Show it again every second'
set -l in_reserve '__fish_seen_subcommand_from reserve; and not __fish_seen_subcommand_from status release'
complete -c thawctl -n "$in_reserve" -a status -d 'Show the reserves'
complete -c thawctl -n "$in_reserve" -a release -d 'Give a reserve back'
complete -c thawctl -n '__fish_seen_subcommand_from release' -l bytes -x -d 'At least so much'
complete -c thawctl -n '__fish_seen_subcommand_from release' -l all -d 'All volumes'

set -l restore '__fish_seen_subcommand_from restore'
complete -c thawctl -n "$restore" -a '(__thawctl_images)' -d Image
complete -c thawctl -n "$restore" -l from-config -d "Take image and options from the VM's file"
complete -c thawctl -n "$restore" -l memory-backend -x -a 'auto uffd file' -d 'How memory is loaded'
complete -c thawctl -n "$restore" -l prefetch -x -a 'yes no' -d 'Load pages ahead'
complete -c thawctl -n "$restore" -l load-timeout -x -d 'Limit for loading'
complete -c thawctl -n "$restore" -l network-override -x -d 'IFACE=DEV'
complete -c thawctl -n '__fish_seen_subcommand_from restore stop snapshot complete record' -l no-block -d 'Do not wait'
set -l ahead '__fish_seen_subcommand_from restore prefetch'
complete -c thawctl -n "$ahead" -l prefetch-rate -x -d 'Bytes per second'
complete -c thawctl -n "$ahead" -l replay-budget -x -d 'Of the working set'
complete -c thawctl -n "$ahead" -l sequential-budget -x -d 'In file order without one'
complete -c thawctl -n '__fish_seen_subcommand_from quiesce' -l release -d 'Let it go on'
complete -c thawctl -n '__fish_seen_subcommand_from top' -s i -l interval -x -d 'Time between two looks'
complete -c thawctl -n '__fish_seen_subcommand_from top' -s n -l iterations -x -d 'End after so many'
complete -c thawctl -n '__fish_seen_subcommand_from stop' -l ignore-missing -d 'Succeed without such a VM'
complete -c thawctl -n '__fish_seen_subcommand_from stop status pause resume top complete quiesce prefetch' -a '(__thawctl_vms)' -d VM
complete -c thawctl -n '__fish_seen_subcommand_from cancel' -a '(__thawctl_jobs)' -d Job
complete -c thawctl -n '__fish_seen_subcommand_from policy' -a 'MemoryBackend Prefetch Recording'

complete -c thawctl -n "$in_image" -a import -d 'Make an image of a snapshot'
complete -c thawctl -n "$in_image" -a seal -d 'Seal files that are in place'
complete -c thawctl -n "$in_image" -a record -d 'See what the guest touches first'
complete -c thawctl -n '__fish_seen_subcommand_from record' -l runs -x -d 'Number of runs'
complete -c thawctl -n '__fish_seen_subcommand_from record' -l max -x -d 'Limit of each run'
complete -c thawctl -n '__fish_seen_subcommand_from record' -l allow-writes -d 'Also with writable drives'
complete -c thawctl -n "$in_image" -a verify -d 'Compare all checksums'
complete -c thawctl -n "$in_image" -a list -d 'List images'
complete -c thawctl -n "$in_image" -a show -d 'Show one image'
complete -c thawctl -n "$in_image" -a rm -d 'Remove an image'
complete -c thawctl -n "$in_image" -a clean -d 'Remove what crashes left'
set -l settings '__fish_seen_subcommand_from import seal'
complete -c thawctl -n "$settings" -l state -r -F -d 'State file'
complete -c thawctl -n "$settings" -l memory -r -F -d 'Memory file'
complete -c thawctl -n "$settings" -l page-size -x -a '4K 2M' -d 'Page size on the host'
complete -c thawctl -n "$settings" -l vmm -x -d 'VMM that wrote the snapshot'
complete -c thawctl -n "$settings" -l vmm-version -x -d 'Its version'
complete -c thawctl -n "$settings" -l drive -x -d 'ID=PATH[:ro][:shared]'
complete -c thawctl -n "$settings" -l vsock -r -F -d 'Path of the vsock socket'
complete -c thawctl -n '__fish_seen_subcommand_from import' -l move -d 'Take the files'
complete -c thawctl -n '__fish_seen_subcommand_from import' -l base -x -d 'Make a difference to that image'
complete -c thawctl -n '__fish_seen_subcommand_from import' -l pages -r -d 'Bitmap of the pages to take'
complete -c thawctl -n '__fish_seen_subcommand_from rm' -l force -d 'Also when in use'
complete -c thawctl -n '__fish_seen_subcommand_from record verify show rm' -a '(__thawctl_images)' -d Image

set -l in_share "__fish_seen_subcommand_from share; and not __fish_seen_subcommand_from $share_verbs"
complete -c thawctl -n "$in_share" -a add -d 'Start a share for a VM'
complete -c thawctl -n "$in_share" -a open -d 'Start a share for any VMM, print its socket'
complete -c thawctl -n "$in_share" -a list -d 'List shares'
complete -c thawctl -n "$in_share" -a status -d 'Show shares of a VM'
complete -c thawctl -n "$in_share" -a remove -d 'Stop a share'
complete -c thawctl -n "$in_share" -a raise-limit -d 'Give a running daemon more descriptors'
complete -c thawctl -n "$in_share" -a drop-caches -d 'Have the guest give back what it only caches'
set -l of_share '__fish_seen_subcommand_from share; and __fish_seen_subcommand_from'
set -l new_share "$of_share add open"
complete -c thawctl -n "$new_share" -F
complete -c thawctl -n "$new_share" -l read-only -d 'The guest cannot write'
complete -c thawctl -n "$new_share" -l file-handles -x -a 'auto mandatory prefer never' -d 'Handles in place of descriptors'
complete -c thawctl -n "$new_share" -l limit -x -d 'Descriptors of the daemon'
complete -c thawctl -n "$new_share" -l on-low-limit -x -a 'fail degraded' -d 'When the machine gives less'
complete -c thawctl -n "$new_share" -l memory-high -x -d 'Memory of the daemon'
complete -c thawctl -n "$new_share" -l cache -x -a 'auto always never metadata' -d 'What the guest may cache'
complete -c thawctl -n "$new_share" -l sandbox -x -a 'namespace chroot none' -d 'How the daemon locks itself in'
complete -c thawctl -n "$new_share" -l user -x -a '(__fish_complete_users)' -d 'User of the daemon'
complete -c thawctl -n "$new_share" -l socket-user -x -a '(__fish_complete_users)' -d 'Who may connect'
complete -c thawctl -n "$new_share" -l socket-group -x -a '(__fish_complete_groups)' -d 'Who may connect'
complete -c thawctl -n "$new_share" -l translate-uid -x -d 'As of virtiofsd'
complete -c thawctl -n "$new_share" -l translate-gid -x -d 'As of virtiofsd'
complete -c thawctl -n "$new_share" -l xattr -d 'Extended attributes'
complete -c thawctl -n "$new_share" -l posix-acl -d 'POSIX ACLs'
complete -c thawctl -n "$new_share" -l allow-mmap -d 'Shared mappings without a cache'
complete -c thawctl -n "$new_share" -l writeback -d 'The guest may write later'
complete -c thawctl -n "$new_share" -l threads -x -d 'Threads of the daemon'
complete -c thawctl -n "$new_share" -l reconnectable -d 'The VMM connects again by itself'
complete -c thawctl -n "$new_share" -l offer-tag -d 'The daemon tells the VMM its tag'
complete -c thawctl -n "$new_share" -l on-loss -x -a 'ignore stop' -d 'What becomes of the VM without it'
complete -c thawctl -n "$new_share" -l unit -x -d 'Unit of the VM'
complete -c thawctl -n "$of_share open" -l name -x -d 'Name to keep it under'
complete -c thawctl -n "$of_share add" -a '(__thawctl_vms)' -d VM
complete -c thawctl -n "$of_share status remove raise-limit drop-caches" -a '(__thawctl_share_names)' -d VM
complete -c thawctl -n "$of_share remove" -l force -d 'Also while a VM uses it'
set -l in_cache '__fish_seen_subcommand_from cache'
complete -c thawctl -n "$in_cache; and not __fish_seen_subcommand_from warm" -a warm -d "Copy a folder into a guest's own disk"
complete -c thawctl -n "$in_cache; and __fish_seen_subcommand_from warm" -a '(__thawctl_vms)' -d VM
complete -c thawctl -n "$in_cache; and __fish_seen_subcommand_from warm" -F -l refresh -d 'Replace what an earlier run made'
complete -c thawctl -n "$in_cache; and __fish_seen_subcommand_from warm" -l transport -x -d 'Command that runs words in the guest'
complete -c thawctl -n "$in_cache; and __fish_seen_subcommand_from warm" -l timeout -x -d 'Limit of a silent guest'
